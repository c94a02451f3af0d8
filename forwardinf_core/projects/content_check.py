"""Are the rows what the model can read? Every row of a set is looked at, or a sample of a large one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.datasets.identity import listed
from forwardinf_core.datasets.rows import DataRows, images_of, texts_of
from forwardinf_core.errors import DataError
from forwardinf_core.models.audit_model import AuditModel
from forwardinf_core.projects.findings import Findings

ROWS_SAMPLED = 500  # of a large set: a broken share of 1% is found with a probability above 99%
SMALL_SET = 5_000  # rows; below it every row is looked at, in seconds
IDS_NAMED = 5

Report = Callable[[float, str], None]


def check_content(
    name: str, rows: DataRows, model: AuditModel | None, found: Findings, *, all_rows: bool, tell: Report
) -> int:
    """Read rows of a set, record which cannot be used, and return how many were looked at."""
    whole = all_rows or len(rows) <= SMALL_SET
    positions = np.arange(len(rows)) if whole else np.linspace(0, len(rows) - 1, ROWS_SAMPLED).astype(np.int64)
    if rows.content == "image":
        broken = _broken(rows, positions, lambda position: _decode(rows, position), f"Decoding images of {name}", tell)
    else:
        lengths: dict[int, str] = {}
        broken = _broken(rows, positions, lambda position: _read(rows, position, lengths), f"Reading {name}", tell)
        _warn_of_texts(name, rows, model, lengths, found)
    if broken:
        tried = f"{len(rows):,}" if whole else f"{len(positions):,} tried"
        first = broken[0][1]
        found.add(
            "error",
            name,
            f"{len(broken):,} of {tried} {rows.content}s in {name} cannot be used: "
            f"{', '.join(row_id for row_id, _ in broken[:IDS_NAMED])}{', …' if len(broken) > IDS_NAMED else ''}.",
            f"{first.title} {first.hint}".strip(),
        )
    return len(positions)


def _broken(
    rows: DataRows, positions: NDArray[np.int64], read: Callable[[int], None], doing: str, tell: Report
) -> list[tuple[str, DataError]]:
    broken = []
    for done, position in enumerate(positions.tolist()):
        if done % 100 == 0:
            tell(done / len(positions), f"{doing}: {done:,} of {len(positions):,}")
        try:
            read(position)
        except DataError as error:
            broken.append((rows.ids[position], error))
    return broken


def _decode(rows: DataRows, position: int) -> None:
    images_of(rows).image(position)


def _read(rows: DataRows, position: int, read: dict[int, str]) -> None:
    read[position] = texts_of(rows).text(position)


def _warn_of_texts(name: str, rows: DataRows, model: AuditModel | None, read: dict[int, str], found: Findings) -> None:
    """Warn of texts that are empty, and of those of which the model reads only the beginning."""
    empty = [rows.ids[position] for position, text in read.items() if not text.strip()]
    if empty:
        found.add(
            "warning",
            name,
            f"{len(empty):,} of {len(read):,} texts in {name} are empty: {listed(empty)}.",
            "The model can only guess on them.",
        )
    if model is None or model.content != "text":
        return
    encoding = model.encoding
    cut = [rows.ids[position] for position, text in read.items() if encoding.is_cut(text)]
    if cut:
        found.add(
            "warning",
            name,
            f"{len(cut):,} of {len(read):,} texts in {name} are longer than the {encoding.length} tokens the model "
            f"reads; the rest of them is left out: {listed(cut)}.",
            "Train with a larger model.length, or split long texts into several rows.",
        )
