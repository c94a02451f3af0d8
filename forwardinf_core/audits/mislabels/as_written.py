"""Labels as the data writes them: integer codes stay codes, names stay names, so that a table of scores joins on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.audits.audit import Audit

USUAL_COLUMN = "label"


def as_written(audit: Audit, codes: NDArray[np.int64]) -> list[int] | list[str]:
    """Return classes as integers where the label column of the training rows holds integers, else as names."""
    written = _codes_in_the_data(audit)
    if written is None:
        return [audit.classes[code] for code in codes.tolist()]
    return [written[code] for code in codes.tolist()]


def _codes_in_the_data(audit: Audit) -> list[int] | None:
    column = getattr(audit.project.config.train, "label", None) or USUAL_COLUMN
    if column not in audit.train.columns:
        return None
    values = audit.train.column(column)
    if not np.issubdtype(values.dtype, np.integer):
        return None
    codes, first = np.unique(audit.train.labels, return_index=True)
    seen = dict(zip(codes.tolist(), values[first].tolist(), strict=True))
    # A class without a training row has no code in the data; its place among the classes is the only one it can have.
    return [int(seen.get(code, code)) for code in range(len(audit.classes))]
