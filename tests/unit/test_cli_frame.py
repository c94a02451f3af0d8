"""The frame of the command line: exit codes, one line for each mistake, and JSON that other programs can read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from forwardinf_core import cli
from forwardinf_core.commands.output import print_json
from forwardinf_core.errors import CancelledError, DataError
from forwardinf_core.jobs import run
from forwardinf_core.jobs.measure import MeasureOptions
from forwardinf_core.store.places import ProjectFolder
from forwardinf_core.store.runs import save_run


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FORWARDINF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(run, "ensure_worker", lambda: False)
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def failing_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    app = typer.Typer()

    @app.callback()
    def frame() -> None:
        """Hold commands."""

    @app.command("fail")
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", app)


def test_a_mistake_of_the_person_is_one_line_and_exit_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing_with(monkeypatch, DataError("train.parquet has no column 'label'.", hint="Columns found: id, image."))
    assert cli.main(["fail"]) == 2
    assert capsys.readouterr().err == "train.parquet has no column 'label'. Columns found: id, image.\n"


def test_a_fault_of_ours_is_one_line_and_exit_1_with_the_rest_in_a_log(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing_with(monkeypatch, ZeroDivisionError("by zero"))
    assert cli.main(["fail"]) == 1
    (log,) = (project.parent / "home" / "logs").iterdir()
    assert capsys.readouterr().err == f"The program failed (ZeroDivisionError). The details are in {log}.\n"
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), CancelledError("Stop.")])
def test_an_interruption_is_no_fault(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    failing_with(monkeypatch, error)
    assert cli.main(["fail"]) == 130


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["jobs", "--cancel", "x"], ["runs"], ["jobs", "/nowhere"], ["jobs", "--cancel", "7"]]
)
def test_a_wrong_command_option_folder_or_id_is_exit_2(project: Path, arguments: list[str]) -> None:
    assert cli.main(arguments) == 2


def test_jobs_are_listed_and_cancelled(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job_id = run.submit("measure", project, MeasureOptions())
    assert cli.main(["jobs", str(project), "--json"]) == 0
    (job,) = json.loads(capsys.readouterr().out)
    assert {"id": job_id, "kind": "measure", "state": "queued", "done": 0, "total": 0}.items() <= job.items()
    assert cli.main(["jobs", "--cancel", str(job_id)]) == 0
    assert "cancelled" in capsys.readouterr().out
    assert cli.main(["jobs", "--log", str(job_id), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_runs_are_listed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", str(project)]) == 0
    assert capsys.readouterr().out == "No finished runs.\n"
    made = save_run(ProjectFolder(project), "attribution", "key", options={}, summary={"top": 1.5})
    assert cli.main(["runs", str(project), "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["id"] == made.id
    assert record["summary"] == {"top": 1.5}


def test_json_holds_no_number_that_json_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": float("nan"), "rows": ({"path": Path("a")},)})
    assert json.loads(capsys.readouterr().out) == {"loss": None, "rows": [{"path": "a"}]}


def test_the_command_line_loads_without_torch() -> None:
    code = "import sys, forwardinf_core.cli; print('torch' in sys.modules, 'sqlalchemy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
