"""What is planted into a copy of the training rows, and the copy itself. The person's own rows are only read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from forwardinf_core.audits.audit import Audit
from forwardinf_core.datasets.identity import IdIndex, fingerprint_of
from forwardinf_core.datasets.rows import UNLABELLED, Content, DataRows, images_of, texts_of
from forwardinf_core.errors import DataError

CANARY_ID = "canary:"


@dataclass(frozen=True)
class Plan:
    """Test rows (positions) whose copies are added, and training rows (positions) whose labels are made wrong."""

    copies: NDArray[np.int64]
    wrong: NDArray[np.int64]
    labels: NDArray[np.int64]  # of the rows in ``wrong``


def plan(audit: Audit, *, copies: int, wrong_share: float, seed: int) -> Plan:
    """Choose at random what to plant.

    Copied are labelled test rows that no training row equals; made wrong are labels that the model agrees with, so
    that a label which was wrong already is not put right by accident. Raises DataError where there are too few.
    """
    draw = np.random.default_rng(seed)
    there = {digest.tobytes() for digest in audit.train.digests}
    fresh = np.array([digest.tobytes() not in there for digest in audit.test.digests], dtype=bool)
    pool = np.flatnonzero(fresh & (audit.test.labels != UNLABELLED))
    agreed = np.flatnonzero(audit.outputs_of("head").argmax(1).numpy() == audit.train_labels)
    n_wrong = round(wrong_share * len(audit.train_ids))
    if len(pool) < 5 or n_wrong < 5 or len(agreed) < 2 * n_wrong or len(audit.classes) < 2:
        raise DataError(
            f"There is too little to plant canaries in: {len(pool)} test rows to copy, {len(agreed):,} training rows "
            "whose label the model agrees with.",
            hint="Canaries need about 5 labelled test rows and 100 training rows.",
        )
    chosen = np.sort(draw.choice(pool, min(copies, len(pool)), replace=False)).astype(np.int64)
    wrong = np.sort(draw.choice(agreed, n_wrong, replace=False)).astype(np.int64)
    turned = draw.integers(1, len(audit.classes), n_wrong)
    return Plan(chosen, wrong, (audit.train_labels[wrong] + turned) % len(audit.classes))


class PlantedRows:
    """The training rows with wrong labels, and after them the copied test rows with their right ones."""

    def __init__(self, train: DataRows, test: DataRows, planted: Plan) -> None:
        self._train, self._test, self._plan = train, test, planted
        self.content: Content = train.content
        self.classes = train.classes
        self.columns: tuple[str, ...] = ()  # nothing but content and label is copied
        self.ids: Sequence[str] = [*train.ids, *(f"{CANARY_ID}{test.ids[p]}" for p in planted.copies.tolist())]
        labels = np.concatenate([train.labels, test.labels[planted.copies]]).astype(np.int64)
        labels[planted.wrong] = planted.labels
        labels.flags.writeable = False
        self.labels: NDArray[np.int64] = labels

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def digests(self) -> NDArray[np.uint8]:
        return np.concatenate([self._train.digests, self._test.digests[self._plan.copies]])

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of(self.ids, self.labels, self.classes, self.digests)

    @cached_property
    def _index(self) -> IdIndex:
        return IdIndex(self.ids, "The copy with canaries")

    def position(self, row_id: str) -> int:
        return self._index.position(row_id)

    def image(self, position: int) -> Image.Image:
        rows, own = self._source(position)
        return images_of(rows).image(own)

    def text(self, position: int) -> str:
        rows, own = self._source(position)
        return texts_of(rows).text(own)

    def payload(self, position: int) -> bytes:
        rows, own = self._source(position)
        return rows.payload(own)

    def column(self, name: str) -> NDArray[np.generic]:
        raise DataError(f"The copy with canaries has no column {name!r}.", hint="It holds content and labels alone.")

    def labels_in(self, name: str) -> NDArray[np.int64]:
        raise DataError(f"The copy with canaries has no column {name!r}.", hint="It holds content and labels alone.")

    def _source(self, position: int) -> tuple[DataRows, int]:
        n_train = len(self._train)
        if position < n_train:
            return self._train, position
        return self._test, int(self._plan.copies[position - n_train])
