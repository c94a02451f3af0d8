"""The spaces that rows are compared in, fitted once per model and training rows and kept on disk.

Whitening some thousand numbers a row takes seconds; a single upload is to be answered in one.
"""

from __future__ import annotations

from torch import Tensor

from forwardinf_core.audits.leakage import traces
from forwardinf_core.audits.leakage.signals import SIGNALS, Spaces, fit_spaces, placed
from forwardinf_core.audits.leakage.traces import Traces
from forwardinf_core.audits.preparation import Workplace
from forwardinf_core.influence.likeness import Space
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.chunks import ChunkStore

VERSION = 1  # rises when the same descriptions would give other spaces
FITTED = "fitted"
MEAN, SCALE = "mean/", "scale/"


def spaces_of(place: Workplace, train: Traces) -> Spaces:
    """Return the spaces of the training rows, holding them; fitted where they are not on disk."""
    prints = {"model": place.model.fingerprint, "train": place.train.fingerprint}
    bound = Binding("spaces", prints, {"traces": traces.VERSION}, VERSION)
    store = ChunkStore(place.audit_dir / "caches" / f"spaces-{bound.key()[:16]}", bound)
    kept = store.get(FITTED)
    if kept is None:
        kept = _tensors(fit_spaces(train))
        store.put(FITTED, kept)
    return placed(_rebuilt(kept), train)


def _tensors(spaces: dict[str, Space]) -> dict[str, Tensor]:
    means = {f"{MEAN}{name}": space.mean for name, space in spaces.items()}
    return means | {f"{SCALE}{name}": space.scale for name, space in spaces.items() if space.scale is not None}


def _rebuilt(tensors: dict[str, Tensor]) -> dict[str, Space]:
    names = [name for name in SIGNALS if f"{MEAN}{name}" in tensors]
    return {name: Space(tensors[f"{MEAN}{name}"], tensors.get(f"{SCALE}{name}")) for name in names}
