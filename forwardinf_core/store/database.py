"""SQLite beside the project, or a team's PostgreSQL by URL; migrations run on opening; trouble is one sentence.

A project's database is PROJECT/.audit/audit.db, or the one FORWARDINF_DATABASE_URL names. The queue of jobs is one a
machine, in FORWARDINF_HOME/jobs.db. SQLite runs in WAL mode with full synchronisation.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from forwardinf_core.errors import DiskFullError, StoreError
from forwardinf_core.projects.places import user_folder
from forwardinf_core.store.files import make_folder
from forwardinf_core.store.locks import turn

History = Literal["project", "queue"]
HEADS: dict[History, str] = {"project": "project_0002", "queue": "queue_0001"}
"""The newest migration of each history; opening compares with it before it loads the migration tool."""
MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_S = 10.0
MIGRATION_LOCK = 726_353_301  # any number; the same for every process of a team's PostgreSQL


class Database:
    """An opened database whose schema is current."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Yield a session that sees one state and waits for no writer. Raises StoreError in one sentence."""
        engine = self.engine.execution_options(sqlite_begin="DEFERRED")
        with database_errors(self.name), Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Yield a session that may write; commit at the end, roll back on an exception. Raises StoreError."""
        with database_errors(self.name), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session


def project_database(audit_dir: Path) -> Database:
    """Open the database of a project's runs: the team's where FORWARDINF_DATABASE_URL is set, else its own."""
    url = os.environ.get("FORWARDINF_DATABASE_URL")
    return open_database(url or audit_dir / "audit.db", "project")


def queue_database() -> Database:
    """Open the queue of this machine."""
    return open_database(queue_file(), "queue")


def queue_file() -> Path:
    """Return where the queue of this machine is."""
    return user_folder() / "jobs.db"


def open_database(target: Path | str, history: History) -> Database:
    """Open a file or a URL, bringing its schema up to date; safe with several processes at once.

    Raises StoreError for a file that is damaged, locked, read-only or newer than this program.
    """
    if isinstance(target, Path):
        make_folder(target.parent)
        url, name = f"sqlite:///{target.absolute()}", str(target)
    else:
        url, name = target, _name_of(target)
    with database_errors(name):
        engine = _engine(url)
        if _identity(target) not in _current:
            if _version(engine, history) != HEADS[history]:
                with _migration_turn(target, engine) as connection:
                    _migrate(connection, history, name)
            _current.add(_identity(target))
    return Database(engine, name)


_current: set[tuple[object, ...]] = set()  # databases that this process found, or made, up to date


def _identity(target: Path | str) -> tuple[object, ...]:
    """Return what tells a database file from one put in its place after it was deleted."""
    if isinstance(target, str):
        return (target,)
    try:
        status = target.stat()
    except FileNotFoundError:
        return (target, None)
    return (target, status.st_dev, status.st_ino, status.st_ctime_ns if os.name != "posix" else 0)


@contextmanager
def database_errors(name: str) -> Iterator[None]:
    """Turn what a database says into one sentence."""
    try:
        yield
    except (DBAPIError, ArgumentError, NoSuchModuleError) as error:
        raise _sentence(name, str(getattr(error, "orig", None) or error)) from error
    except ImportError as error:
        raise StoreError(
            f"The driver for the database {name} is not installed ({error.name}).",
            hint="Install psycopg for PostgreSQL.",
        ) from error


def _sentence(name: str, said: str) -> StoreError:
    low = said.lower()
    if "disk is full" in low or "no space left" in low:
        return DiskFullError(f"The disk is full: {name} could not be written.", hint="Make room and try again.")
    if "locked" in low:
        return StoreError(
            f"The database {name} is locked by another program.", hint="Close that program and try again."
        )
    if "readonly" in low or "read-only" in low:
        return StoreError(f"The database {name} may not be written.", hint="Give this user write permission.")
    if "malformed" in low or "not a database" in low or "disk i/o" in low:
        return StoreError(
            f"The database {name} is damaged.", hint="Restore a copy, or move it away to start with an empty one."
        )
    if "unable to open" in low:
        return StoreError(f"The database {name} cannot be opened.", hint="Check the path and its permissions.")
    first = said.strip().splitlines()[0] if said.strip() else "no reason given"
    return StoreError(f"The database {name} answered: {first}.", hint="Check its address, and that it runs.")


def _name_of(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "in FORWARDINF_DATABASE_URL"


@lru_cache(maxsize=64)
def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    # a connection a session: a folder deleted meanwhile is then seen at once, and processes may be forked
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own: ours hold schema changes too
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # a writer takes its turn before it reads, so that it cannot find out too late that another wrote
        mode = connection.get_execution_options().get("sqlite_begin", "IMMEDIATE")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


def _version_table(history: History) -> str:
    return f"{history}_version"


def _version(engine: Engine, history: History) -> str | None:
    with engine.connect().execution_options(sqlite_begin="DEFERRED") as connection:
        return _version_on(connection, history)


def _version_on(connection: Connection, history: History) -> str | None:
    table = _version_table(history)
    if not inspect(connection).has_table(table):
        return None
    row = connection.execute(text(f"SELECT version_num FROM {table}")).first()  # noqa: S608  # one of two constants
    return None if row is None else str(row[0])


@contextmanager
def _migration_turn(target: Path | str, engine: Engine) -> Iterator[Connection]:
    """Yield a connection while no other process migrates the same database."""
    if isinstance(target, Path):
        with turn(target.with_name(f"{target.name}.lock")), engine.begin() as connection:
            yield connection
    else:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":  # held until the transaction ends
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            yield connection


def _migrate(connection: Connection, history: History, name: str) -> None:
    if _version_on(connection, history) == HEADS[history]:  # another process was first
        return
    from alembic.command import upgrade
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("version_locations", str(MIGRATIONS / history))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = _version_table(history)
    try:
        upgrade(config, "head")
    except CommandError as error:  # it stands at a migration that this program does not have
        raise StoreError(
            f"The database {name} was written by a newer version of this program.", hint="Update this program."
        ) from error
