"""The worker against jobs that misbehave, and jobs against people who do."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import toy_jobs  # registers its jobs here as the worker does there

from forwardinf_core.commands.jobs import JOB_MODULES
from forwardinf_core.errors import JobError, StoreError
from forwardinf_core.jobs import child, queue, run, task, worker
from forwardinf_core.jobs.execution import work_folder
from forwardinf_core.jobs.measure import wait_until
from forwardinf_core.jobs.queue import JobStatus
from forwardinf_core.projects.places import ALLOW_CODE
from forwardinf_core.store.database import queue_database
from forwardinf_core.store.tables import JobRow

CANCEL_S = 2.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of its own with one worker for all tests of this file."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORWARDINF_HOME", str(folder))
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        worker.ensure_worker(["toy_jobs"])
        yield folder
        worker.lock_file().unlink(missing_ok=True)  # the worker ends


@pytest.fixture
def project(home: Path, tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def ended(job_id: int) -> JobStatus:
    return wait_until(job_id, lambda state: not state.is_active, modules=["toy_jobs"])


def wait_for(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.01)


def started(job_id: int) -> JobStatus:
    return wait_until(job_id, lambda state: state.done > 0, modules=["toy_jobs"])


def test_a_job_that_does_not_listen_is_cancelled_in_time_and_keeps_its_chunks(project: Path) -> None:
    job_id = run.submit("toy-stubborn", project, toy_jobs.ToyOptions())
    state = started(job_id)
    assert state.state == "running"
    assert state.note == "stuck"
    assert state.heartbeat_age_s is not None
    begun = time.monotonic()
    run.cancel(job_id)
    state = ended(job_id)
    assert time.monotonic() - begun < CANCEL_S
    assert state.state == "cancelled"
    assert list(work_folder(project, state.binding).glob("first.safetensors"))
    (project / "flag").touch()
    assert run.retry(job_id) == job_id
    assert ended(job_id).state == "done"
    wait_for(lambda: not any((project / ".audit" / "work").iterdir()))  # after done is written, so that it is true
    with pytest.raises(JobError, match="is done"):
        run.retry(job_id)


def test_the_same_work_is_queued_once_and_waiting_work_is_cancelled_at_once(project: Path) -> None:
    first = run.submit("toy-stubborn", project, toy_jobs.ToyOptions())
    assert run.submit("toy-stubborn", project, toy_jobs.ToyOptions()) == first
    other = run.submit("toy-stubborn", project, toy_jobs.ToyOptions("other"))
    assert other != first
    started(first)
    assert run.cancel(other).state == "cancelled"
    assert [state.id for state in run.list_jobs(project)] == [first, other]
    with pytest.raises(JobError, match="already at this toy-stubborn work"):
        run_at_once(project)
    (project / "flag").touch()
    assert ended(first).state == "done"


def test_work_that_stopped_is_not_begun_again_by_asking_for_it_once_more(project: Path) -> None:
    options = toy_jobs.ToyOptions()
    failed = ended(run.submit("toy-fault", project, options))
    assert run.submit_once("toy-fault", project, options).id == failed.id
    assert run.submit_once("toy-fault", project, options).state == "failed"
    assert run.retry(failed.id) == failed.id
    assert ended(failed.id).attempt == 2
    assert run.submit_once("toy-memory", project, options).is_active
    first = run.find("toy-memory", project, options)
    assert first is not None
    assert ended(first.id).state == "done"
    assert run.submit_once("toy-memory", project, options).id != first.id


def run_at_once(project: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "FOREGROUND_LOCK_S", 0.0)
        run.run_here("toy-stubborn", project, toy_jobs.ToyOptions())


def test_a_full_disk_pauses_the_job_until_there_is_room(project: Path) -> None:
    job_id = run.submit("toy-full", project, toy_jobs.ToyOptions())
    state = ended(job_id)
    assert state.state == "paused"
    assert "disk is full" in state.error
    (project / "flag").touch()
    assert run.submit("toy-full", project, toy_jobs.ToyOptions()) == job_id  # asking for it again goes on with it
    state = ended(job_id)
    assert (state.state, state.result, state.error) == ("done", {"kept": 1}, "")


def test_out_of_memory_halves_the_batch_and_says_so(project: Path) -> None:
    state = ended(run.submit("toy-memory", project, toy_jobs.ToyOptions()))
    assert state.result == {"sizes": [12, 12]}
    assert state.log[0] == "Out of memory with batches of 100: going on with 50."
    assert len(state.log) == 3
    assert run.run_here("toy-memory", project, toy_jobs.ToyOptions()) == state.result


def test_a_job_whose_process_always_dies_is_given_up_with_a_sentence(project: Path) -> None:
    state = ended(run.submit("toy-dies", project, toy_jobs.ToyOptions()))
    assert state.state == "failed"
    assert "killed 5 times without getting on" in state.error
    assert state.attempt == task.MAX_CRASHES


def test_a_fault_of_the_program_is_one_sentence_and_a_log(project: Path, home: Path) -> None:
    state = ended(run.submit("toy-fault", project, toy_jobs.ToyOptions()))
    assert state.state == "failed"
    assert "ZeroDivisionError" in state.error
    assert "Traceback" in (home / "logs" / f"job-{state.id}.log").read_text()


def test_a_project_that_is_deleted_fails_its_job_with_a_sentence_and_is_not_made_again(project: Path) -> None:
    job_id = run.submit("toy-stubborn", project, toy_jobs.ToyOptions())
    started(job_id)
    shutil.rmtree(project)
    state = ended(job_id)
    assert state.state == "failed"
    assert "was deleted or moved" in state.error
    assert not project.exists()
    with pytest.raises(JobError, match="was deleted or moved"):
        run.submit("toy-stubborn", project, toy_jobs.ToyOptions())


def test_a_project_that_changes_while_its_job_waits_or_runs_fails_it(project: Path) -> None:
    (project / "flag").write_text("change me")
    state = ended(run.submit("toy-changing", project, toy_jobs.ToyOptions()))
    assert state.state == "failed"
    assert "changed since this job was started (rows)" in state.error
    state = ended(run.submit("toy-changing", project, toy_jobs.ToyOptions()))
    assert state.result == {"names": ["x", "y"], "weight": 0.1}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"version": 2}, "version 2 of its code, this program has 3"),
        ({"options": {"gone": 1}}, "options of this toy-changing job do not fit"),
        ({"kind": "toy-unknown"}, "no job of kind 'toy-unknown'"),
    ],
)
def test_a_job_of_another_version_is_refused_with_a_sentence(
    project: Path, values: dict[str, object], said: str
) -> None:
    (project / "flag").write_text("x")
    blocking = run.submit("toy-stubborn", project, toy_jobs.ToyOptions("go"))
    job_id = run.submit("toy-changing", project, toy_jobs.ToyOptions())
    assert queue.change(job_id, "queued", **values)
    (project / "go").touch()
    state = ended(job_id)
    assert state.state == "failed"
    assert said in state.error
    assert ended(blocking).state == "done"


def test_a_second_worker_ends_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "START_TIMEOUT_S", 0.05)
    monkeypatch.setattr(os, "nice", lambda _by: 0)
    wait_for(worker.is_worker_alive)
    assert not worker.Worker(["toy_jobs"]).run()
    assert not worker.ensure_worker()


def test_a_lock_file_of_a_dead_worker_stops_no_one_and_its_job_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDINF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(run, "ensure_worker", lambda: False)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "worker.lock").write_text("99999999")
    orphan = run.submit("toy-memory", tmp_path, toy_jobs.ToyOptions())
    unwanted = run.submit("toy-memory", tmp_path, toy_jobs.ToyOptions("other"))
    for _ in range(2):
        assert queue.claim(99999999, "an earlier start of the machine") is not None
    assert run.status(orphan).heartbeat_age_s is None  # another boot: its clock says nothing
    assert not worker.is_worker_alive()
    assert run.cancel(unwanted).state == "cancelled"
    assert run.status(orphan).state == "queued"


def test_a_clock_that_jumps_changes_neither_rate_nor_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDINF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(run, "ensure_worker", lambda: False)
    job_id = run.submit("toy-memory", tmp_path, toy_jobs.ToyOptions())
    assert queue.claim(os.getpid(), queue.boot_id()) is not None
    queue.change(job_id, "running", done=4.0, total=10.0, rate=2.0)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    state = run.status(job_id)
    assert state.seconds_left == 3.0
    assert state.heartbeat_age_s is not None
    assert 0 <= state.heartbeat_age_s < 5


def test_a_full_queue_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDINF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(run, "ensure_worker", lambda: False)
    monkeypatch.setattr(queue, "MAX_WAITING", 2)
    for name in ("a", "b"):
        run.submit("toy-memory", tmp_path, toy_jobs.ToyOptions(name))
    with pytest.raises(JobError, match="queue is full: 2 jobs wait"):
        run.submit("toy-memory", tmp_path, toy_jobs.ToyOptions("c"))


def test_a_machine_folder_that_may_not_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FORWARDINF_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(StoreError, match="could not be written"):
        run.submit("toy-memory", tmp_path, toy_jobs.ToyOptions())


def test_a_worker_that_cannot_start_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDINF_HOME", str(tmp_path))
    monkeypatch.setattr(worker.sys, "executable", "/bin/false")
    monkeypatch.setattr(worker, "_started", None)
    assert worker.ensure_worker()
    assert worker._started is not None
    worker._started[1].wait(10)
    with pytest.raises(JobError, match="could not start"):
        worker.ensure_worker()


def test_finished_rows_are_forgotten_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDINF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(run, "ensure_worker", lambda: False)
    monkeypatch.setattr(queue, "KEPT_FINISHED", 2)
    for name in "abcd":
        run.cancel(run.submit("toy-memory", tmp_path, toy_jobs.ToyOptions(name)))
    run.submit("toy-memory", tmp_path, toy_jobs.ToyOptions("e"))
    with queue_database().reading() as session:
        assert [row.id for row in session.query(JobRow)] == [3, 4, 5]


def test_a_worker_that_may_not_write_into_the_project_says_so_in_a_sentence(project: Path) -> None:
    (project / ".audit").mkdir()
    (project / ".audit" / "work").touch()  # no folder can be made there, whoever we are
    state = ended(run.submit("toy-memory", project, toy_jobs.ToyOptions()))
    assert state.state == "failed"
    assert "could not be written" in state.error
    assert "fault of the program" not in state.error
    (project / ".audit" / "work").unlink()
    assert ended(run.retry(state.id)).state == "done"


ADAPTER = (
    "import torch\n\n\ndef build_model():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 2))\n"
)


def test_a_worker_without_permission_refuses_code_in_a_sentence_and_one_with_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDINF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.delenv(ALLOW_CODE, raising=False)
    (tmp_path / "net.py").write_text(ADAPTER)
    worker.ensure_worker(["toy_jobs"])
    monkeypatch.setenv(ALLOW_CODE, "1")  # this app may; the worker was started before
    job_id = run.submit("toy-code", tmp_path, toy_jobs.ToyOptions())
    state = ended(job_id)
    assert state.state == "failed"
    assert "was started without the permission" in state.error
    assert ALLOW_CODE in state.hint
    worker.lock_file().unlink()  # that worker ends
    wait_for(lambda: worker._started is None or worker._started[1].poll() is not None)
    worker.ensure_worker(["toy_jobs"])
    assert run.retry(job_id) == job_id
    state = ended(job_id)
    worker.lock_file().unlink()
    assert (state.state, state.result) == ("done", {"classes": ["x", "y"]})


def test_the_worker_knows_every_module_that_has_a_job() -> None:
    core = Path(worker.__file__).parents[1]
    found = {
        ".".join(path.relative_to(core.parent).with_suffix("").parts)
        for path in core.rglob("*.py")
        if re.search(r"^@job\(", path.read_text(), re.MULTILINE)
    }
    assert found - {"forwardinf_core.jobs.registry"} == set(JOB_MODULES)


def test_messages_of_the_child_are_few_and_typed() -> None:
    assert set(child.Message.__args__) == {child.Started, child.Reported, child.Logged, child.Ended}
