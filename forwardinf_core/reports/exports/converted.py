"""The cleaned rows in another shape than they came in: a table, a ``datasets`` folder, or folders of classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from forwardinf_core.audits.audit import Audit
from forwardinf_core.datasets.images import image_ending
from forwardinf_core.datasets.source import DEFAULT_COLUMNS
from forwardinf_core.reports.exports.own_shape import free_name, safe_name
from forwardinf_core.reports.exports.plan import Plan, Written
from forwardinf_core.reports.exports.sheets import write_sheet
from forwardinf_core.store.files import make_folder

if TYPE_CHECKING:
    from datasets import Dataset

CHUNK = 500  # rows whose content is in memory at a time


def kept_positions(plan: Plan) -> list[int]:
    """Return the positions of the rows that stay."""
    return [at for at in range(plan.n_rows) if at not in plan.drop]


def columns_of(audit: Audit, plan: Plan) -> dict[str, list[object]]:
    """Return every column but the content, of the rows that stay, with the new labels."""
    rows, kept = audit.train, kept_positions(plan)
    id_column = audit.project.config.train.id or DEFAULT_COLUMNS["id"]
    found: dict[str, list[object]] = {}
    if id_column not in rows.columns:
        found[id_column] = [rows.ids[at] for at in kept]
    for name in rows.columns:
        values = rows.column(name)
        new: Mapping[int, Written] = plan.cells.get(name, {})
        found[name] = [new[at] if at in new else _plain(values[at]) for at in kept]
    return found


def write_table_csv(audit: Audit, draft: Path, plan: Plan) -> None:
    """Write ids, labels and further columns as CSV; texts too, pictures not: they have no place in a table."""
    columns = columns_of(audit, plan)
    if audit.train.content == "text":
        columns[_content_column(audit)] = [audit.train.payload(at).decode() for at in kept_positions(plan)]
    write_sheet(columns, draft)


def write_table_jsonl(audit: Audit, draft: Path, plan: Plan) -> None:
    """Write one object a line, as ``write_table_csv``."""
    import json

    columns = columns_of(audit, plan)
    if audit.train.content == "text":
        columns[_content_column(audit)] = [audit.train.payload(at).decode() for at in kept_positions(plan)]
    with draft.open("w", encoding="utf-8") as out:
        for values in zip(*columns.values(), strict=True):
            out.write(json.dumps(dict(zip(columns, values, strict=True)), ensure_ascii=False) + "\n")


def write_table_parquet(audit: Audit, draft: Path, plan: Plan) -> None:
    """Write all columns, with encoded pictures or texts, a piece at a time."""
    columns, kept, content = columns_of(audit, plan), kept_positions(plan), _content_column(audit)
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    kind = pa.string() if audit.train.content == "text" else pa.binary()
    schema = table.schema.append(pa.field(content, kind))
    with pyarrow.parquet.ParquetWriter(draft, schema) as writer:
        for start in range(0, len(kept), CHUNK):
            part = kept[start : start + CHUNK]
            payloads = [audit.train.payload(at) for at in part]
            cells = pa.array([one.decode() for one in payloads] if kind == pa.string() else payloads, kind)
            writer.write_table(table.slice(start, len(part)).append_column(schema.field(content), cells))


def write_class_folders(audit: Audit, draft: Path, plan: Plan) -> None:
    """Write a folder for each class with a file for each row, named by its id."""
    labels = plan.cells.get(plan.label, {})
    written = audit.train.column(plan.label)
    names = _folder_names(audit, written)
    for at in kept_positions(plan):
        payload = audit.train.payload(at)
        ending = ".txt" if audit.train.content == "text" else image_ending(payload)
        folder = names[str(labels[at])] if at in labels else names[str(_plain(written[at]))]
        stem = safe_name(audit.train.ids[at].removesuffix(ending))
        goal = free_name(draft / folder / f"{stem}{ending}")
        make_folder(goal.parent)
        goal.write_bytes(payload)


def write_datasets(audit: Audit, draft: Path, plan: Plan) -> None:
    """Write the rows as the ``datasets`` library keeps them, pictures and class names as such."""
    from datasets import ClassLabel, Dataset, Image

    columns, kept = columns_of(audit, plan), kept_positions(plan)
    content = _content_column(audit)
    payloads = [audit.train.payload(at) for at in kept]
    made = Dataset.from_dict(columns)
    if audit.train.content == "text":
        made = made.add_column(content, [payload.decode() for payload in payloads])
    else:
        made = made.add_column(content, [{"bytes": payload, "path": None} for payload in payloads])
        made = made.cast_column(content, Image(decode=False)).cast_column(content, Image())
    codes = made[plan.label][:]
    if all(isinstance(code, int) and 0 <= code < len(audit.classes) for code in codes):
        made = made.cast_column(plan.label, ClassLabel(names=list(audit.classes)))
    made.save_to_disk(str(draft))


def rewrite_datasets(path: Path, name: str, split: str | None, draft: Path, plan: Plan) -> None:
    """Write a ``datasets`` folder again with the changes; other splits stay as they are."""
    import datasets

    saved = path.is_dir() and ((path / "state.json").exists() or (path / "dataset_dict.json").exists())
    opened = (
        datasets.load_from_disk(str(path)) if saved else datasets.load_dataset(str(path) if path.exists() else name)
    )
    if isinstance(opened, datasets.DatasetDict):
        chosen = split if split is not None else next(iter(opened))
        opened[chosen] = _rewritten(opened[chosen], plan)
    else:
        opened = _rewritten(opened, plan)
    opened.save_to_disk(str(draft))


def _rewritten(dataset: Dataset, plan: Plan) -> Dataset:
    order = dataset.column_names
    for column, cells in plan.cells.items():
        if not cells:
            continue
        feature = dataset.features[column]
        values = dataset.with_format("arrow")[:].column(column).to_pylist()
        for at, value in cells.items():
            values[at] = value
        dataset = dataset.remove_columns([column]).add_column(column, values).cast_column(column, feature)
    kept = [at for at in range(len(dataset)) if at not in plan.drop]
    return dataset.select_columns(order).select(kept)


def _folder_names(audit: Audit, written: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> dict[str, str]:
    """Return a folder for each label as the data writes it: the name of its class, made unique."""
    found: dict[str, str] = {}
    for code, name in enumerate(audit.classes):
        where = np.flatnonzero(audit.train.labels == code)
        own = (
            str(_plain(written[where[0]])) if len(where) else str(code if isinstance(written[0], np.integer) else name)
        )
        folder, number = safe_name(name), 1
        while folder in found.values():
            number += 1
            folder = f"{safe_name(name)}-{number}"
        found[own] = folder
    where = np.flatnonzero(audit.train.labels < 0)
    return found | {str(_plain(written[at])): "unlabelled" for at in where[:1]}


def _content_column(audit: Audit) -> str:
    content = audit.train.content
    return getattr(audit.project.config.train, content) or DEFAULT_COLUMNS[content]


def _plain(value: object) -> object:
    found = value.item() if isinstance(value, np.generic) else value
    if isinstance(found, float) and found != found:  # NaN stands for no value
        return None
    return found
