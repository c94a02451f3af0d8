"""What makes rows the same rows: unique ids to find them by, and a fingerprint of their content."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.errors import DataError

NAMED = 5  # examples named in an error
_COMPARED_IDS = 20_000  # similar ids are looked for among this many, to answer within a second


class IdIndex:
    """Positions by id. Raises DataError when two rows share an id."""

    def __init__(self, ids: Sequence[str], where: str) -> None:
        self._where = where
        self._positions = {row_id: position for position, row_id in enumerate(ids)}
        if len(self._positions) < len(ids):
            twice = [row_id for row_id, count in Counter(ids).items() if count > 1]
            raise DataError(
                f"{where} has {len(twice)} ids that occur more than once: {listed(twice)}.",
                hint="Every row needs its own id; leave the id column out to number the rows instead.",
            )

    def position(self, row_id: str) -> int:
        """Return the position of a row. Raises DataError that names near ids when there is none."""
        found = self._positions.get(row_id)
        if found is not None:
            return found
        near = get_close_matches(row_id, list(islice(self._positions, _COMPARED_IDS)), n=3, cutoff=0.5)
        hint = (
            f"Similar ids: {listed(near)}." if near else f"Ids look like: {listed(list(islice(self._positions, 3)))}."
        )
        raise DataError(f"{self._where} has no row with id {row_id!r}.", hint=hint)


def listed(values: Sequence[object], limit: int = NAMED) -> str:
    """Return the first values as text, with how many more there are."""
    more = len(values) - limit
    return ", ".join(str(value) for value in values[:limit]) + (f" and {more} more" if more > 0 else "")


def digests_of(payloads: Iterable[bytes], count: int) -> NDArray[np.uint8]:
    """Return the SHA-256 of each payload, (count, 32), read one after the other."""
    joined = b"".join(hashlib.sha256(payload).digest() for payload in payloads)
    return np.frombuffer(joined, dtype=np.uint8).reshape(count, 32)


def fingerprint_of(
    ids: Sequence[str], labels: NDArray[np.int64], classes: tuple[str, ...], digests: NDArray[np.uint8]
) -> str:
    """Return the SHA-256 (hex) over ids, labels, classes and digests, in row order."""
    total = hashlib.sha256(json.dumps([list(classes), list(ids)], ensure_ascii=True).encode())
    total.update(labels.astype("<i8").tobytes())
    total.update(digests.tobytes())
    return total.hexdigest()
