"""Finished runs: immutable folders PROJECT/.audit/runs/ID and a row each in the project's database.

The id of a run follows from its kind and key (the fingerprint of inputs and options), so the same question about the
same model and rows is the same run: re-opened, never recomputed, also after a restart or from a link. The folders are
the truth: a row whose folder has gone is dropped, a folder without a row is registered again.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import delete, select

from forwardinf_core.errors import RunNotFoundError
from forwardinf_core.store.binding import Option
from forwardinf_core.store.database import project_database
from forwardinf_core.store.files import (
    TEMPORARY_PREFIX,
    disk_errors,
    flush_folder,
    make_folder,
    read_json,
    sha256,
    sha256_of_file,
    write_bytes,
    write_json,
)
from forwardinf_core.store.tables import RunRow

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

FORMAT = 1
MANIFEST = "manifest.json"
ID = re.compile(r"[a-z][a-z0-9-]{0,39}-[0-9a-f]{16}")
NAME = re.compile(r"[a-z][a-z0-9_-]{0,60}")
HINT = "It is made anew when you ask the same question again."


class AuditedProject(Protocol):
    """Where a project is, and where its caches and runs are kept."""

    @property
    def root(self) -> Path: ...
    @property
    def audit_dir(self) -> Path: ...


@dataclass(frozen=True)
class RunRecord:
    """A finished run. ``created`` is in seconds since 1970."""

    id: str
    kind: str
    key: str
    options: dict[str, Option]
    summary: dict[str, Option]
    created: float
    folder: Path

    def frame(self, name: str) -> pd.DataFrame:
        """Return a table as a data frame. Raises RunNotFoundError where the run has no such table."""
        import pandas as pd

        return pd.read_parquet(self._path(f"{name}.parquet"))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Return a table of tensors. Raises RunNotFoundError where the run has no such table."""
        from safetensors.torch import load_file

        return load_file(self._path(f"{name}.safetensors"))

    def _path(self, name: str) -> Path:
        if not (self.folder / name).is_file():
            raise RunNotFoundError(f"The run {self.id} has no {name}.", hint=HINT)
        return self.folder / name


def run_id(kind: str, key: str) -> str:
    """Return the id that a run of this kind and key has."""
    return f"{kind}-{sha256(f'{kind} {key}'.encode())[:16]}"


def save_run(
    project: AuditedProject,
    kind: str,
    key: str,
    *,
    options: Mapping[str, Option],
    summary: Mapping[str, Option],
    frames: Mapping[str, pd.DataFrame] | None = None,
    tensors: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> RunRecord:
    """Keep a finished run: ``frames`` as parquet, ``tensors`` as safetensors, one file a name.

    Where the run is there already, that one is returned unchanged. Raises DiskFullError, StoreError.
    """
    own_id = run_id(kind, key)
    assert ID.fullmatch(own_id), own_id
    existing = find_run(project, kind, key)
    if existing is not None:
        return existing
    runs = project.audit_dir / "runs"
    make_folder(runs)
    draft = runs / f"{TEMPORARY_PREFIX}{own_id}-{secrets.token_hex(4)}"
    try:
        make_folder(draft)
        files = _write_tables(draft, frames or {}, tensors or {})
        manifest = {"id": own_id, "kind": kind, "key": key, "options": dict(options), "summary": dict(summary)}
        write_json(draft / MANIFEST, {**manifest, "created": time.time(), "format": FORMAT, "files": files})
        _publish(draft, runs / own_id)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    record = _read(runs / own_id)
    assert record is not None
    with project_database(project.audit_dir).writing() as session:
        session.merge(_row(record, project))
    return record


def find_run(project: AuditedProject, kind: str, key: str) -> RunRecord | None:
    """Return the run of this kind and key, or None where it must be computed. A damaged one counts as none."""
    return _read(project.audit_dir / "runs" / run_id(kind, key), verify=True)


def open_run(project: AuditedProject, own_id: str) -> RunRecord:
    """Return a run by its id, which may come from a link. Raises RunNotFoundError."""
    record = _read(project.audit_dir / "runs" / own_id, verify=True) if ID.fullmatch(own_id) else None
    if record is None:
        raise RunNotFoundError(f"There is no finished run {own_id[:80]!r} in this project.", hint=HINT)
    return record


def list_runs(project: AuditedProject, kind: str | None = None) -> list[RunRecord]:
    """Return the finished runs, newest first, after bringing the rows of the database in line with the folders."""
    runs = project.audit_dir / "runs"
    if not runs.is_dir() and not (project.audit_dir / "audit.db").is_file():
        return []  # nothing was ever kept: leave the folder as it is
    found = [record for folder in runs.glob("*-*") if (record := _read(folder))] if runs.is_dir() else []
    _reconcile(project, found)
    chosen = [record for record in found if kind in (None, record.kind)]
    return sorted(chosen, key=lambda record: (-record.created, record.id))


def _write_tables(
    folder: Path, frames: Mapping[str, pd.DataFrame], tensors: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, str]:
    contents: dict[str, bytes] = {}
    for name, frame in frames.items():
        assert NAME.fullmatch(name), name
        contents[f"{name}.parquet"] = frame.to_parquet(index=False)
    if tensors:
        from safetensors.torch import save

        for name, table in tensors.items():
            assert NAME.fullmatch(name), name
            contents[f"{name}.safetensors"] = save({k: v.detach().cpu().contiguous() for k, v in table.items()})
    for name, content in contents.items():
        write_bytes(folder / name, content)
    return {name: sha256(content) for name, content in contents.items()}


def _publish(draft: Path, target: Path) -> None:
    """Give the draft its name. Another process may have been first: then its run stands, unless it is damaged."""
    with disk_errors(target):
        if target.exists() and _read(target, verify=True) is None:
            broken = draft.with_name(f"{draft.name}-replaced")
            target.rename(broken)
            shutil.rmtree(broken, ignore_errors=True)
        try:
            draft.rename(target)
        except OSError:
            if _read(target) is None:
                raise
        flush_folder(target.parent)


def _read(folder: Path, *, verify: bool = False) -> RunRecord | None:
    """Return the run in a folder, or None where there is none, or one that is damaged or of another format.

    ``verify`` reads the tables against their checksums; without it they only have to be there.
    """
    manifest = read_json(folder / MANIFEST)
    if manifest is None or manifest.get("format") != FORMAT or manifest.get("id") != folder.name:
        return None
    files, options, summary = manifest.get("files"), manifest.get("options"), manifest.get("summary")
    if not (isinstance(files, dict) and isinstance(options, dict) and isinstance(summary, dict)):
        return None
    for name, digest in files.items():
        if not (folder / str(name)).is_file() or (verify and sha256_of_file(folder / str(name)) != digest):
            return None
    kind, key, created = str(manifest.get("kind")), str(manifest.get("key")), manifest.get("created")
    seconds = float(created) if isinstance(created, int | float) else 0.0
    return RunRecord(folder.name, kind, key, options, summary, seconds, folder)


def _row(record: RunRecord, project: AuditedProject) -> RunRow:
    return RunRow(
        id=record.id,
        project=str(project.root),
        kind=record.kind,
        key=record.key,
        created=record.created,
        options=json.loads(json.dumps(record.options)),
        summary=json.loads(json.dumps(record.summary)),
    )


def _reconcile(project: AuditedProject, found: list[RunRecord]) -> None:
    database, own = project_database(project.audit_dir), RunRow.project == str(project.root)
    on_disk = {record.id: record for record in found}
    with database.reading() as session:
        known = set(session.scalars(select(RunRow.id).where(own)))
    gone, new = known - on_disk.keys(), on_disk.keys() - known
    if not gone and not new:
        return
    with database.writing() as session:
        session.execute(delete(RunRow).where(own, RunRow.id.in_(gone)))
        for own_id in new:
            session.merge(_row(on_disk[own_id], project))
