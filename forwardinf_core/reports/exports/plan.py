"""The changes as they are written: each class the way the data writes it, in the columns that hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from forwardinf_core.audits.audit import Audit
from forwardinf_core.datasets.source import DEFAULT_COLUMNS
from forwardinf_core.errors import DataError
from forwardinf_core.reports.exports.changes import Changes

Written = int | float | str


@dataclass(frozen=True)
class Plan:
    """Rows to leave out, and new cells by column and position. ``label`` is empty for class folders."""

    n_rows: int
    drop: frozenset[int]
    label: str
    cells: Mapping[str, Mapping[int, Written]]  # column → position → value

    def __bool__(self) -> bool:
        return bool(self.drop or any(self.cells.values()))


def plan_of(audit: Audit, changes: Changes) -> Plan:
    """Return what to write where. Raises DataError where no column holds the labels."""
    rows, source = audit.train, audit.project.config.train
    label = "label" if source.kind == "folder" else source.label or DEFAULT_COLUMNS["label"]
    if label not in rows.columns:
        raise DataError(
            f"{source.path} has no label column {label!r}, so no label can be changed.",
            hint="Export decisions instead: python -m forwardinf_core decisions PROJECT --out patch.json",
        )
    written = written_labels(audit, label)
    cells: dict[str, dict[int, Written]] = {
        label: {position: written[code] for position, code in changes.relabel.items()}
    }
    names = source.label_name or DEFAULT_COLUMNS["label_name"]
    if source.kind != "folder" and names in rows.columns and names != label:
        named = names_beside(audit, names)
        if named is not None:
            cells[names] = {position: named[code] for position, code in changes.relabel.items()}
    return Plan(len(rows), changes.drop, label, cells)


def written_labels(audit: Audit, column: str) -> list[Written]:
    """Return how the data writes each class: as in its first row; a class without one by its name or number."""
    values = audit.train.column(column)
    is_number = np.issubdtype(values.dtype, np.number) or np.issubdtype(values.dtype, np.bool_)
    found: list[Written] = [code if is_number else name for code, name in enumerate(audit.classes)]
    codes, first = np.unique(audit.train.labels, return_index=True)
    for code, position in zip(codes.tolist(), first.tolist(), strict=True):
        if code >= 0:
            value = values[position]
            found[code] = value.item() if isinstance(value, np.generic) else value
    return [int(value) if isinstance(value, float) and value.is_integer() else value for value in found]


def names_beside(audit: Audit, column: str) -> list[str] | None:
    """Return what a column calls each class, where it names the labels one to one; else None: it names others."""
    values, labels = audit.train.column(column), audit.train.labels
    found: dict[int, str] = {}
    for code in np.unique(labels).tolist():
        names = {str(value) for value in np.unique(values[labels == code].astype(str)).tolist()}
        if len(names) != 1:
            return None
        found[code] = names.pop()
    if len(set(found.values())) < len(found):
        return None
    return [found.get(code, name) for code, name in enumerate(audit.classes)]
