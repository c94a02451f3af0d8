"""Runs and databases: immutable folders, rows that follow them, migrations, and one sentence for each trouble."""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
import torch
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select

from forwardinf_core.errors import RunNotFoundError, StoreError
from forwardinf_core.projects.load import AUDIT_FOLDER as AUDIT_FOLDER_OF_PROJECTS
from forwardinf_core.store import database as databases
from forwardinf_core.store.database import open_database, project_database
from forwardinf_core.store.places import AUDIT_FOLDER, ProjectFolder
from forwardinf_core.store.runs import RunRecord, find_run, list_runs, open_run, save_run
from forwardinf_core.store.tables import ProjectBase, QueueBase, RunRow


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProjectFolder:
    monkeypatch.delenv("FORWARDINF_DATABASE_URL", raising=False)
    return ProjectFolder(tmp_path)


def save(project: ProjectFolder, key: str = "k1", top: float = 1.5) -> RunRecord:
    frame = pd.DataFrame({"id": ["a", "b"], "score": [top, -0.25]})
    tables = {"rows": {"score": torch.tensor([top, -0.25])}}
    options = {"method": "tail"}
    return save_run(
        project, "attribution", key, options=options, summary={"n": 2}, frames={"top": frame}, tensors=tables
    )


def rows_of(project: ProjectFolder) -> int:
    with project_database(project.audit_dir).reading() as session:
        return session.scalar(select(func.count()).select_from(RunRow)) or 0


def test_a_run_is_opened_again_by_key_and_by_id(project: ProjectFolder) -> None:
    made = save(project)
    found = find_run(project, "attribution", "k1")
    assert found == made == open_run(project, made.id)
    assert found.options == {"method": "tail"}
    assert found.frame("top")["id"].tolist() == ["a", "b"]
    assert found.tensors("rows")["score"].tolist() == [1.5, -0.25]
    assert find_run(project, "attribution", "k2") is None
    assert list_runs(project) == [made]


def test_a_run_is_never_changed(project: ProjectFolder) -> None:
    made = save(project)
    assert save(project, top=9.0) == made
    assert open_run(project, made.id).frame("top")["score"].tolist() == [1.5, -0.25]


def test_a_damaged_run_is_made_anew(project: ProjectFolder) -> None:
    made = save(project)
    (made.folder / "top.parquet").write_bytes(b"torn")
    assert find_run(project, "attribution", "k1") is None
    with pytest.raises(RunNotFoundError):
        open_run(project, made.id)
    assert save(project, top=9.0).frame("top")["score"].tolist() == [9.0, -0.25]


@pytest.mark.parametrize("own_id", ["../../etc", "attribution-0000000000000000", "", "x" * 200])
def test_an_unknown_id_from_a_link_is_one_sentence(project: ProjectFolder, own_id: str) -> None:
    with pytest.raises(RunNotFoundError, match="no finished run"):
        open_run(project, own_id)


def test_rows_follow_the_folders(project: ProjectFolder) -> None:
    first, second = save(project), save(project, "k2")
    shutil.rmtree(first.folder)
    assert list_runs(project) == [second]
    assert rows_of(project) == 1
    (project.audit_dir / "audit.db").unlink()
    assert list_runs(project, "attribution") == [second]
    assert rows_of(project) == 1
    shutil.rmtree(project.audit_dir)
    assert list_runs(project) == []
    assert not project.audit_dir.exists()


def test_the_folder_of_caches_has_one_name() -> None:
    assert AUDIT_FOLDER == AUDIT_FOLDER_OF_PROJECTS


@pytest.mark.parametrize(("history", "base"), [("project", ProjectBase), ("queue", QueueBase)])
def test_migrations_end_at_the_tables_of_the_program(tmp_path: Path, history: databases.History, base: type) -> None:
    opened = open_database(tmp_path / "x.db", history)
    with opened.engine.connect() as connection:
        options = {"version_table": f"{history}_version"}
        differences = compare_metadata(MigrationContext.configure(connection, opts=options), base.metadata)
    assert differences == []
    newest = sorted(path.stem for path in (databases.MIGRATIONS / history).glob("*.py"))[-1]
    assert newest.startswith(databases.HEADS[history])


def open_queue(path: Path) -> None:
    open_database(path, "queue")


def test_two_processes_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=open_queue, args=(tmp_path / "jobs.db",)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]


def test_a_migration_that_was_killed_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import alembic.command

    upgrade = alembic.command.upgrade

    def killed(*arguments: object) -> None:
        upgrade(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(alembic.command, "upgrade", killed)
    with pytest.raises(KeyboardInterrupt):
        open_database(tmp_path / "jobs.db", "queue")
    monkeypatch.undo()
    open_database(tmp_path / "jobs.db", "queue")


def test_a_damaged_database_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "audit.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match="is damaged"):
        open_database(tmp_path / "audit.db", "project")


def test_a_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    open_database(tmp_path / "audit.db", "project")
    with sqlite3.connect(tmp_path / "audit.db") as connection:
        connection.execute("UPDATE project_version SET version_num = 'project_9999'")
    connection.close()
    databases._current.clear()
    with pytest.raises(StoreError, match="newer version"):
        open_database(tmp_path / "audit.db", "project")


def test_a_locked_database_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "BUSY_TIMEOUT_S", 0.05)
    opened = open_database(tmp_path / "audit.db", "project")
    other = sqlite3.connect(tmp_path / "audit.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"), opened.writing() as session:
        session.execute(select(RunRow.id))
    with opened.reading() as session:  # readers wait for no one
        assert session.scalar(select(func.count()).select_from(RunRow)) == 0
    other.close()


@pytest.mark.parametrize("url", ["nonsense", "oracle+none://x", "postgresql+psycopg://nobody:secret@127.0.0.1:1/x"])
def test_a_wrong_address_of_a_team_database_is_one_sentence_without_the_password(
    project: ProjectFolder, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("FORWARDINF_DATABASE_URL", url)
    with pytest.raises(StoreError) as caught:
        project_database(project.audit_dir)
    assert "secret" not in str(caught.value)


def test_a_full_disk_and_a_closed_one_are_told_apart() -> None:
    assert "full" in databases._sentence("x", "database or disk is full").title
    assert "may not be written" in databases._sentence("x", "attempt to write a readonly database").title
