"""The table of label issues as cleanlab users know it, with what was decided beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from forwardinf_core.audits.decisions import DROP, KEEP, RELABEL
from forwardinf_core.audits.mislabels.records import Suspects
from forwardinf_core.reports.exports.changes import Changes
from forwardinf_core.reports.exports.sheets import write_sheet


def write_cleanlab(suspects: Suspects, changes: Changes, draft: Path) -> None:
    """Write one line a training row: cleanlab's columns, then the decision.

    ``is_label_issue`` is what was decided, and for rows that nobody decided whether the row is among the expected
    number of wrong labels. ``label_quality`` is the held-out probability of the given label: low = suspicious.
    """
    names = suspects.classes
    expected = np.zeros(len(suspects.ids), np.bool_)
    expected[np.argsort(-suspects.score, kind="stable")[: round(suspects.n_wrong)]] = True
    issue = [
        {KEEP: False, RELABEL: True, DROP: True}.get(changes.decided[at].action, bool(expected[at]))
        if at in changes.decided
        else bool(expected[at])
        for at in range(len(suspects.ids))
    ]
    decided = [changes.decided.get(at) for at in range(len(suspects.ids))]
    clean = [changes.relabel.get(at, int(label)) for at, label in enumerate(suspects.label.tolist())]
    held_out = suspects.signals.get("held_out")
    quality = 1 - suspects.wrong_chance if held_out is None else np.exp(-held_out.astype(np.float64))
    columns: dict[str, list[object]] = {
        "id": list(suspects.ids),
        "is_label_issue": list(issue),
        "label_quality": [round(float(value), 6) for value in quality],
        "given_label": [names[code] for code in suspects.label.tolist()],
        "predicted_label": [names[code] for code in suspects.suggested.tolist()],
        "clean_label": ["" if at in changes.drop else names[code] for at, code in enumerate(clean)],
        "action": ["" if one is None else one.action for one in decided],
        "reviewer": ["" if one is None else one.reviewer for one in decided],
        "comment": ["" if one is None else one.comment for one in decided],
    }
    write_sheet(columns, draft)
