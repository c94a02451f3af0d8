"""Decisions: nothing is lost or doubled, undo and redo over the whole history, several reviewers, two databases."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import random
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from forwardinf_core.audits.agreement import agreements, kappa_of
from forwardinf_core.audits.decisions import current, history, ledger_of, record, redo, undo
from forwardinf_core.errors import DataError, StoreError
from forwardinf_core.store import decisions as kept
from forwardinf_core.store.database import open_database
from forwardinf_core.store.decisions import Decision
from forwardinf_core.store.places import ProjectFolder
from tests.conftest import absent

AUDIT = "mislabels"


def verdict(row: str, action: str, label: int | None = None, *, by: str = "Ann", **rest: object) -> Decision:
    return Decision(AUDIT, "train", row, action, label, reviewer=by, **rest)  # type: ignore[arg-type]


def actions(project: ProjectFolder, reviewer: str | None = "Ann") -> dict[str, str]:
    return {row: one.action for (_, row), one in current(project, AUDIT, reviewer).items()}


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of its own, where its programs are installed."""
    programs = shutil.which("initdb"), shutil.which("postgres")
    try:
        import psycopg
    except ImportError:
        absent("no psycopg: pip install 'psycopg[binary]'")
    if None in programs:
        absent("no PostgreSQL on this machine")
    folder = tmp_path_factory.mktemp("postgres")
    user = None  # the server refuses to run as root
    if os.geteuid() == 0:
        user = next((name for name in ("postgres", "nobody") if name in {one.pw_name for one in pwd.getpwall()}), None)
        assert user is not None
        for path in (folder, *folder.parents[:3]):  # those of pytest, with or without several processes
            if not path.stat().st_mode & stat.S_IXOTH:
                path.chmod(0o755)
        shutil.chown(folder, user)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "user": user, "cwd": folder}
    subprocess.run([str(programs[0]), "-D", data, "-U", "tester", "-A", "trust", "-N"], check=True, **quiet)  # type: ignore[call-overload]
    command = [str(programs[1]), "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", folder]
    server = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
    url = f"postgresql://tester@127.0.0.1:{port}/postgres"
    try:
        for _ in range(100):
            try:
                psycopg.connect(url, connect_timeout=2).close()
                break
            except psycopg.OperationalError:
                assert server.poll() is None
                multiprocessing.Event().wait(0.1)
        yield url.replace("postgresql://", "postgresql+psycopg://")
    finally:
        server.send_signal(signal.SIGINT)  # the fast end: it does not wait for the connections we keep
        server.wait(10)


@pytest.fixture(params=["sqlite", "postgresql"])
def project(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProjectFolder:
    monkeypatch.delenv("FORWARDINF_DATABASE_URL", raising=False)
    if request.param == "postgresql":
        monkeypatch.setenv("FORWARDINF_DATABASE_URL", request.getfixturevalue("postgres"))
    return ProjectFolder(tmp_path)


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProjectFolder:
    monkeypatch.delenv("FORWARDINF_DATABASE_URL", raising=False)
    return ProjectFolder(tmp_path)


def test_a_decision_is_read_back_as_it_was_recorded(project: ProjectFolder) -> None:
    assert current(project, AUDIT) == {}
    given = verdict("r 1", "relabel", 3, comment="a 3, “surely”", score=0.75, run_id="mislabels-1", entry="tab:1")
    assert record(project, [given]) == 1
    (found,) = history(project, AUDIT)
    assert found.seq > 0
    assert found.at > 0
    values = [getattr(found, name) for name in ("row_id", "action", "label", "comment", "score", "run_id", "entry")]
    assert values == ["r 1", "relabel", 3, "a 3, “surely”", 0.75, "mislabels-1", "tab:1"]
    assert current(project, AUDIT, "Ann") == {("train", "r 1"): found}


def test_a_log_sent_again_is_kept_once(project: ProjectFolder) -> None:
    log = [verdict(f"r{number}", "keep", entry=f"tab:{number}") for number in range(5)]
    assert record(project, log[:3]) == 3
    assert record(project, log) == 2
    assert record(project, log) == 0
    assert [one.row_id for one in history(project, AUDIT)] == ["r0", "r1", "r2", "r3", "r4"]


def test_undo_and_redo_go_over_the_whole_history(project: ProjectFolder) -> None:
    record(project, [verdict("a", "keep"), verdict("b", "drop"), verdict("a", "relabel", 2)])
    assert actions(project) == {"a": "relabel", "b": "drop"}
    assert undo(project, AUDIT, "Ann")
    assert actions(project) == {"a": "keep", "b": "drop"}
    assert undo(project, AUDIT, "Ann")
    assert undo(project, AUDIT, "Ann")
    assert undo(project, AUDIT, "Ann") is None
    assert actions(project) == {}
    assert redo(project, AUDIT, "Ann")
    assert redo(project, AUDIT, "Ann")
    assert actions(project) == {"a": "keep", "b": "drop"}
    record(project, [verdict("c", "unsure")])
    assert redo(project, AUDIT, "Ann") is None  # something was decided since
    assert actions(project) == {"a": "keep", "b": "drop", "c": "unsure"}
    assert len(history(project, AUDIT)) == 9  # nothing was removed
    assert [one.action for one in history(project, AUDIT, row=("train", "b"))] == ["drop", "undo", "redo"]


def test_a_bulk_action_is_one_step_and_reviewers_undo_only_their_own(project: ProjectFolder) -> None:
    record(project, [verdict(f"r{number}", "drop", step="bulk-1") for number in range(4)])
    record(project, [verdict("r0", "keep", by="Bob")])
    taken = undo(project, AUDIT, "Ann")
    assert taken is not None
    assert taken.row_id == ""
    assert actions(project) == {}
    assert actions(project, "Bob") == {"r0": "keep"}
    redo(project, AUDIT, "Ann")
    assert len(actions(project)) == 4


def naive(records: list[Decision], reviewer: str) -> dict[tuple[str, str], Decision]:
    """Fold anew with two stacks of steps, as a person would on paper."""
    done: list[str] = []
    undone: list[str] = []
    for one in (one for one in records if one.reviewer == reviewer):
        if one.action == "undo":
            undone.append(done.pop())
        elif one.action == "redo":
            done.append(undone.pop())
        else:
            done += [one.step] if one.step not in done else []
            undone.clear()
    found = {}
    for one in records:
        if one.reviewer == reviewer and one.step in done:
            found[(one.split, one.row_id)] = one
    return found


def test_folding_as_records_come_in_equals_folding_all_of_them_anew(local: ProjectFolder) -> None:
    chance = random.Random(0)
    for turn in range(50):
        by = chance.choice(["Ann", "Bob"])
        what = chance.random()
        if what < 0.3:
            undo(local, AUDIT, by)
        elif what < 0.45:
            redo(local, AUDIT, by)
        elif what < 0.55:
            record(local, [verdict(f"r{row}", "drop", by=by, step=f"bulk-{turn}") for row in range(3)])
        else:
            record(local, [verdict(f"r{chance.randrange(6)}", chance.choice(["keep", "drop", "unsure"]), by=by)])
        for reviewer in ("Ann", "Bob"):
            assert current(local, AUDIT, reviewer) == naive(history(local, AUDIT), reviewer)


def test_reviewers_who_differ_leave_no_outcome_until_somebody_settles_it(project: ProjectFolder) -> None:
    record(project, [verdict("a", "keep"), verdict("a", "drop", by="Bob"), verdict("b", "unsure")])
    record(
        project,
        [verdict("b", "relabel", 1, by="Bob"), verdict("c", "relabel", 1), verdict("c", "relabel", 2, by="Bob")],
    )
    ledger = ledger_of(project, AUDIT).refreshed()
    assert ledger.disagreements() == [("train", "a"), ("train", "c")]
    assert actions(project, None) == {"b": "relabel"}  # unsure abstains
    record(project, [verdict("a", "drop", by="Carl", settles=True)])
    assert actions(project, None) == {"b": "relabel", "a": "drop"}
    undo(project, AUDIT, "Carl")
    assert actions(project, None) == {"b": "relabel"}


def test_kappa_is_that_of_the_textbook() -> None:
    # 50 proposals: both yes 20, both no 15, only one yes 5 and 10; kappa = (0.7 - 0.5) / (1 - 0.5)
    pairs = [("y", "y")] * 20 + [("n", "n")] * 15 + [("y", "n")] * 5 + [("n", "y")] * 10
    assert kappa_of(pairs) == pytest.approx(0.4)
    assert kappa_of([("y", "y")] * 9) is None


def test_agreement_counts_the_rows_both_judged_on_their_own(local: ProjectFolder) -> None:
    record(local, [verdict(f"r{row}", "keep" if row < 3 else "drop") for row in range(6)])
    record(local, [verdict(f"r{row}", "keep" if row < 2 else "drop", by="Bob") for row in range(5)])
    record(local, [verdict("r2", "keep", by="Bob", settles=True)])
    (found,) = agreements(ledger_of(local, AUDIT).refreshed())
    assert (found.first, found.second, found.rows, found.same) == ("Ann", "Bob", 5, 4)
    assert found.kappa == pytest.approx(1 - (1 - 0.8) / (1 - (0.6 * 0.4 + 0.4 * 0.6)))


def decide_many(root: Path, name: str) -> None:
    for number in range(40):
        record(ProjectFolder(root), [verdict(f"r{number}", "keep", by="Ann", entry=f"{name}:{number}")])


def test_two_processes_at_once_lose_nothing(local: ProjectFolder) -> None:
    context = multiprocessing.get_context("fork")
    tabs = [context.Process(target=decide_many, args=(local.root, f"tab{number}")) for number in range(3)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join(60)
    assert [tab.exitcode for tab in tabs] == [0, 0, 0]
    assert len(history(local, AUDIT)) == 120
    assert len(current(local, AUDIT, "Ann")) == 40


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (verdict("a", "explode"), "is 'explode'"),
        (verdict("a", "relabel"), "label None"),
        (verdict("a", "keep", 3), "label 3"),
        (verdict("", "keep"), "without a row"),
        (verdict("a", "keep", by="  "), "needs the name"),
        (verdict("a", "keep", comment="x" * 2001), "more than 2000"),
        (verdict("a", "undo", undoes="nothing"), "nothing called 'nothing' to undo"),
        (verdict("a", "redo", undoes="tab:1"), "nothing called 'tab:1' to redo"),
        (verdict("a", "keep", undoes="tab:1"), "nothing called"),
    ],
)
def test_a_record_that_means_nothing_is_refused_and_nothing_of_its_log_is_kept(
    local: ProjectFolder, wrong: Decision, sentence: str
) -> None:
    record(local, [verdict("z", "keep", entry="tab:1")])
    with pytest.raises(DataError, match=sentence):
        record(local, [verdict("b", "keep"), wrong])
    assert len(history(local, AUDIT)) == 1


def test_the_next_record_starts_a_new_history_where_the_database_was_deleted(local: ProjectFolder) -> None:
    record(local, [verdict("a", "keep"), verdict("b", "keep")])
    shutil.rmtree(local.audit_dir)
    assert current(local, AUDIT) == {}
    record(local, [verdict("c", "drop")])
    assert actions(local) == {"c": "drop"}


def test_a_database_of_the_version_before_is_migrated_and_keeps_its_runs(
    local: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    open_database(local.audit_dir / "audit.db", "project")
    with sqlite3.connect(local.audit_dir / "audit.db") as connection:
        connection.execute("DROP TABLE decisions")
        connection.execute("UPDATE project_version SET version_num = 'project_0001'")
        connection.execute("INSERT INTO runs VALUES ('r', 'p', 'k', 'key', 0, '{}', '{}')")
    connection.close()
    from forwardinf_core.store import database

    database._current.clear()
    record(local, [verdict("a", "keep")])
    with sqlite3.connect(local.audit_dir / "audit.db") as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    connection.close()


def test_a_locked_database_is_one_sentence_and_nothing_is_half_recorded(
    local: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    from forwardinf_core.store import database

    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    database._engine.cache_clear()
    record(local, [verdict("a", "keep")])
    other = sqlite3.connect(local.audit_dir / "audit.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        record(local, [verdict("b", "keep"), verdict("c", "keep")])
    other.close()
    assert kept.count(local, AUDIT) == 1
    database._engine.cache_clear()
