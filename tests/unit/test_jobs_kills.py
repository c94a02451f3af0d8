"""Kill -9 at random moments, and the same bits in the end; the same function in the foreground."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from forwardinf_core.errors import CancelledError
from forwardinf_core.jobs import run, worker
from forwardinf_core.jobs.measure import MeasureOptions, bare_digest, measure_kills
from forwardinf_core.jobs.registry import find_kind

SHORT = MeasureOptions(chunks=12, repeats=20)
KILLED = MeasureOptions(chunks=30, repeats=60, seed=9)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("FORWARDINF_HOME", str(tmp_path / "home"))
    (tmp_path / "project").mkdir()
    yield tmp_path / "project"
    worker.lock_file().unlink(missing_ok=True)  # a worker ends


def test_killed_workers_and_children_change_no_bit(home: Path) -> None:
    found = measure_kills(home, KILLED, kills=2, seed=1)
    assert found.equal == found.jobs, run.list_jobs()
    assert found.kills == 2


def test_an_interrupted_foreground_run_goes_on_and_ends_bit_equal(home: Path) -> None:
    seen = []

    def interrupt(done: float, _total: float, _note: str) -> None:
        seen.append(done)
        if done >= 2:
            raise CancelledError("Stop.")

    with pytest.raises(CancelledError):
        run.run_here("measure", home, MeasureOptions(chunks=12, repeats=300), interrupt)
    (work,) = (home / ".audit" / "work").glob("measure-*[!k]")
    kept = sorted(work.glob("*.safetensors"))
    assert kept
    kept[0].write_bytes(kept[0].read_bytes()[:100])  # the power went in the middle of a write
    (work / ".writing-torn").write_bytes(b"torn")
    result = run.run_here("measure", home, MeasureOptions(chunks=12, repeats=300))
    assert result["sha256"] == bare_digest(MeasureOptions(chunks=12, repeats=300))
    assert not work.exists()


def test_options_come_back_from_json_as_they_were() -> None:
    kind = find_kind("measure")
    assert kind.options_of(kind.record_of(SHORT)) == SHORT
    assert kind.binding(Path(), SHORT).key() == kind.binding(Path(), MeasureOptions(chunks=12, repeats=20)).key()
