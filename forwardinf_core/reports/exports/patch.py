"""Decisions as a file that can be read, kept under version control, and applied to a fresh copy of the data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.decisions import DROP, KEEP, RELABEL, UNSURE, VERDICTS
from forwardinf_core.datasets.identity import listed
from forwardinf_core.errors import DataError
from forwardinf_core.reports.exports.changes import Changes
from forwardinf_core.store.decisions import Decision

FORMAT, VERSION = "forward-inf-decisions", 1
SIZE_LIMIT_BYTES = 500_000_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """One decision of a patch, with labels by name so that it does not depend on the order of classes."""

    id: str
    action: str
    label: str | None  # the row's label when it was decided
    new_label: str | None
    reviewer: str
    at: str
    comment: str


def write_patch(audit: Audit, changes: Changes, draft: Path) -> None:
    """Write the decisions behind the changes, in the order of the rows."""
    names = audit.classes
    verdicts = [_verdict(audit, at, one, names) for at, one in sorted(changes.decided.items())]
    content = {
        "format": FORMAT,
        "version": VERSION,
        "project": audit.project_name,
        "rows": len(audit.train),
        "train_fingerprint": audit.train.fingerprint,
        "decisions": [{name: getattr(one, name) for name in Verdict.__dataclass_fields__} for one in verdicts],
    }
    draft.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _verdict(audit: Audit, at: int, one: Decision, names: tuple[str, ...]) -> Verdict:
    own = int(audit.train.labels[at])
    new = names[one.label] if one.action == RELABEL and one.label is not None else None
    made = datetime.fromtimestamp(one.at, UTC).isoformat(timespec="seconds")
    label = names[own] if own >= 0 else None
    return Verdict(audit.train.ids[at], one.action, label, new, one.reviewer, made, one.comment)


def read_patch(path: Path) -> list[Verdict]:
    """Return the verdicts of a patch. Raises DataError, in a sentence, for a file that is none."""
    hint = "Write one with: python -m forwardinf_core decisions PROJECT --out patch.json"
    try:
        if path.stat().st_size > SIZE_LIMIT_BYTES:
            raise DataError(f"{path} is too large to be a patch.", hint=hint)
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", hint="Check the path.") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON.", hint=hint) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{path} is not a patch of decisions.", hint=hint)
    if content.get("version") != VERSION:
        raise DataError(
            f"{path} was written as version {content.get('version')}; this program reads version {VERSION}.",
            hint="Update this program.",
        )
    found = content.get("decisions")
    if not isinstance(found, list):
        raise DataError(f"{path} holds no list of decisions.", hint=hint)
    return [_read(entry, path, number) for number, entry in enumerate(found)]


def _read(entry: object, path: Path, number: int) -> Verdict:
    if not isinstance(entry, Mapping) or entry.get("action") not in VERDICTS or not isinstance(entry.get("id"), str):
        raise DataError(f"{path}: decision number {number + 1} has no id or no action.", hint="Was it edited by hand?")
    if entry["action"] == RELABEL and not isinstance(entry.get("new_label"), str):
        raise DataError(f"{path}: the relabelled row {entry['id']!r} has no new_label.", hint="Was it edited by hand?")

    def text(name: str) -> str | None:
        value = entry.get(name)
        return value if isinstance(value, str) else None

    return Verdict(
        entry["id"],
        entry["action"],
        text("label"),
        text("new_label"),
        text("reviewer") or "",
        text("at") or "",
        text("comment") or "",
    )


def changes_of_patch(audit: Audit, patch: list[Verdict]) -> Changes:
    """Return what a patch changes here. A row that has the new label already stays as it is.

    Raises DataError where a class is unknown, or where rows have another label than when they were decided: the patch
    was then made for other data.
    """
    rows, classes = audit.train, audit.classes
    codes = {name: code for code, name in enumerate(classes)}
    positions = {row_id: at for at, row_id in enumerate(rows.ids)}
    unknown = sorted({one.new_label for one in patch if one.new_label is not None and one.new_label not in codes})
    if unknown:
        raise DataError(
            f"The patch names {len(unknown)} classes that this project does not have: {listed(unknown)}.",
            hint=f"It has: {listed(classes, 20)}.",
        )
    relabel: dict[int, int] = {}
    drop: set[int] = set()
    gone, other, decided = [], [], {}
    for one in patch:
        at = positions.get(one.id)
        if at is None:
            gone.append(one.id)
            continue
        own = classes[rows.labels[at]] if rows.labels[at] >= 0 else None
        is_done = one.action == RELABEL and own == one.new_label
        if own != one.label and not is_done:
            other.append(one.id)
            continue
        new = codes[one.new_label] if one.action == RELABEL and one.new_label is not None else None
        decided[at] = Decision("mislabels", "train", one.id, one.action, new, one.reviewer, comment=one.comment)
        if one.action == DROP:
            drop.add(at)
        elif new is not None and not is_done:
            relabel[at] = new
    if other:
        raise DataError(
            f"{len(other)} rows have another label than when they were decided: {listed(other)}.",
            hint="The patch was made for other data; nothing was changed.",
        )
    actions = [one.action for one in decided.values()]
    kept = len(decided) - len(relabel) - len(drop) - actions.count(UNSURE)
    assert kept >= actions.count(KEEP)
    return Changes(relabel, frozenset(drop), kept, actions.count(UNSURE), (), tuple(gone), decided)
