"""A language model's training texts without those that reviewers dropped, in the very shape they came in.

Every text that stays is the same bytes: lines of CSV and JSON lines, files of a folder, parquet files without a
dropped text. What was decided elsewhere than on tracing's pages is not read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.audits.decisions import ledger_of
from forwardinf_core.audits.tracing.audit import TracingAudit
from forwardinf_core.errors import DataError
from forwardinf_core.reports.exports import own_shape
from forwardinf_core.reports.exports.changes import Changes, changes_of
from forwardinf_core.reports.exports.converted import rewrite_datasets
from forwardinf_core.reports.exports.plan import Plan
from forwardinf_core.reports.exports.target import whole
from forwardinf_core.store.files import make_folder

AUDIT = "tracing"
ENDINGS = {"csv": ".csv", "jsonl": ".jsonl", "parquet": ".parquet", "datasets": "", "folder": ""}


@dataclass(frozen=True)
class CorpusRows:
    """Texts as rows without labels, for what a difference shows."""

    audit: TracingAudit

    @property
    def ids(self) -> list[str]:
        return list(self.audit.ids)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        return np.full(len(self.audit.ids), -1, np.int64)


def changes_for(audit: TracingAudit, reviewer: str | None = None) -> Changes:
    """Return what the decisions recorded so far change: texts can be dropped or kept."""
    return changes_of(CorpusRows(audit), ledger_of(audit.project, AUDIT).refreshed(), reviewer)


def suggested_target(audit: TracingAudit) -> Path:
    """Return a free name in the project's folder of exports."""
    source, folder = audit.project.config.train, audit.folder / "exports"
    ending = "" if _is_several_files(audit) else ENDINGS[source.kind]
    number = 1
    while os.path.lexists(folder / f"train-clean{'' if number == 1 else f'-{number}'}{ending}"):
        number += 1
    return folder / f"train-clean{'' if number == 1 else f'-{number}'}{ending}"


def export_corpus(audit: TracingAudit, target: Path, changes: Changes, *, copy: bool = False) -> Path:
    """Write the texts that stay, as a whole or not at all; return the path.

    Raises DataError where no text would be left, StoreError or DiskFullError in one sentence; nothing is left then.
    """
    if len(changes.drop) == len(audit.ids):
        raise DataError("Every text was dropped, so nothing is left to write.", hint="Keep some of them.")
    if target.absolute().parent == (audit.folder / "exports").absolute():
        make_folder(target.parent)
    with whole(target) as draft:
        _write(audit, draft, Plan(len(audit.ids), changes.drop, "", {}), copy=copy)
    return target.absolute()


def _write(audit: TracingAudit, draft: Path, plan: Plan, *, copy: bool) -> None:
    source = audit.project.config.train
    path = audit.folder / source.path
    if source.kind == "parquet":
        files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
        own_shape.write_parquet(files, draft, plan, is_folder=_is_several_files(audit))
    elif source.kind == "csv":
        own_shape.write_csv(path, draft, plan)
    elif source.kind == "jsonl":
        own_shape.write_jsonl(path, draft, plan)
    elif source.kind == "folder":
        own_shape.write_folder(path, list(audit.ids), draft, plan, copy=copy)
    else:
        rewrite_datasets(path, source.path, source.split, draft, plan)


def _is_several_files(audit: TracingAudit) -> bool:
    source = audit.project.config.train
    return source.kind == "parquet" and not (audit.folder / source.path).is_file()
