"""Exports of a review, as the screen and the command line ask for them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Literal, get_args

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.decisions import ledger_of
from forwardinf_core.audits.mislabels.finding import find_suspects
from forwardinf_core.datasets.opening import parquet_files
from forwardinf_core.errors import DataError, StoreError
from forwardinf_core.reports.exports import converted, own_shape
from forwardinf_core.reports.exports.changes import Changes, changes_of
from forwardinf_core.reports.exports.cleanlab_table import write_cleanlab
from forwardinf_core.reports.exports.patch import write_patch
from forwardinf_core.reports.exports.plan import Plan, plan_of
from forwardinf_core.reports.exports.target import whole
from forwardinf_core.store.files import make_folder

AUDIT = "mislabels"
Format = Literal["csv", "jsonl", "parquet", "datasets", "folder", "cleanlab", "patch"]
FORMATS: tuple[Format, ...] = get_args(Format)
ENDINGS: dict[Format, str] = {
    "csv": ".csv",
    "jsonl": ".jsonl",
    "parquet": ".parquet",
    "datasets": "",
    "folder": "",
    "cleanlab": ".csv",
    "patch": ".json",
}


def format_named(name: str) -> Format:
    """Return the format of this name. Raises DataError with those there are."""
    kinds: dict[str, Format] = {kind: kind for kind in FORMATS}
    if name not in kinds:
        raise DataError(f"There is no format {name!r}.", hint=f"There are: {', '.join(FORMATS)}.")
    return kinds[name]


def own_format(audit: Audit) -> Format:
    """Return the shape that the training rows came in."""
    return format_named(audit.project.config.train.kind)


def changes_for(audit: Audit, reviewer: str | None = None) -> Changes:
    """Return what the decisions recorded so far change."""
    return changes_of(audit.train, ledger_of(audit.project, AUDIT).refreshed(), reviewer)


def suggested_target(audit: Audit, kind: Format) -> Path:
    """Return a free name in the project's folder of exports."""
    folder = audit.project.root / "exports"
    stem = {"cleanlab": "label-issues", "patch": "decisions"}.get(kind, "train-clean")
    ending = ENDINGS[kind] if not _is_several_files(audit, kind) else ""
    number = 1
    while os.path.lexists(folder / f"{stem}{'' if number == 1 else f'-{number}'}{ending}"):
        number += 1
    return folder / f"{stem}{'' if number == 1 else f'-{number}'}{ending}"


def export(audit: Audit, kind: Format, target: Path, changes: Changes, *, copy: bool = False) -> Path:
    """Write the training rows with the changes, or a table of them, as a whole or not at all; return the path.

    Raises DataError, StoreError or DiskFullError in one sentence; nothing is left then.
    """
    if target.absolute().parent == (audit.project.root / "exports").absolute():
        make_folder(target.parent)
    with whole(target) as draft:
        if kind == "cleanlab":
            suspects = find_suspects(audit)
            if suspects is None:
                raise DataError("There are no suspects yet.", hint="Run: python -m forwardinf_core mislabels PROJECT")
            write_cleanlab(suspects, changes, draft)
        elif kind == "patch":
            write_patch(audit, changes, draft)
        else:
            write_rows(audit, kind, draft, plan_of(audit, changes), copy=copy)
    return target.absolute()


def write_rows(audit: Audit, kind: Format, draft: Path, plan: Plan, *, copy: bool) -> None:
    """Write the rows in a shape; in their own, what is not decided stays the same bytes where the format allows it."""
    source, root = audit.project.config.train, audit.project.root
    path = root / source.path
    if kind != own_format(audit):
        writers = {
            "csv": converted.write_table_csv,
            "jsonl": converted.write_table_jsonl,
            "parquet": converted.write_table_parquet,
            "datasets": converted.write_datasets,
            "folder": converted.write_class_folders,
        }
        writers[kind](audit, draft, plan)
    elif kind == "parquet":
        files = parquet_files(path, root, source.path)
        own_shape.write_parquet(files, draft, plan, is_folder=_is_several_files(audit, kind))
    elif kind == "csv":
        own_shape.write_csv(path, draft, plan)
    elif kind == "jsonl":
        own_shape.write_jsonl(path, draft, plan)
    elif kind == "folder":
        own_shape.write_folder(path, list(audit.train.ids), draft, plan, copy=copy)
    else:
        converted.rewrite_datasets(path, source.path, source.split, draft, plan)


def apply_in_place(audit: Audit, changes: Changes) -> Path:
    """Put the changed rows where the training rows were, and return where the rows of before are kept."""
    source, root = audit.project.config.train, audit.project.root
    path = root / source.path
    if not path.exists():
        raise StoreError(
            f"{source.path} is no file or folder of this project, so it cannot be changed in place.",
            hint="Write the result elsewhere with --out.",
        )
    before = audit.project.audit_dir / "before" / secrets.token_hex(4)
    make_folder(before)
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    export(audit, own_format(audit), new, changes, copy=True)
    kept = before / path.name
    try:
        path.rename(kept)
        new.rename(path)
    except OSError as error:
        if kept.exists() and not path.exists():
            kept.rename(path)
        raise StoreError(f"{source.path} could not be replaced: {error.strerror}.", hint=f"It is in {new}.") from error
    return kept


def _is_several_files(audit: Audit, kind: Format) -> bool:
    source = audit.project.config.train
    return kind == "parquet" and source.kind == "parquet" and not (audit.project.root / source.path).is_file()
