"""The training rows in the shape they came in, with the decided rows changed and every other one as it was.

CSV and JSON lines: lines that are not changed are the same bytes. Parquet: files without a change are the same bytes,
in the others every other value, the schema and the row groups stay. Class folders: the same files, linked or copied.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from forwardinf_core.errors import DataError
from forwardinf_core.reports.exports.plan import Plan, Written
from forwardinf_core.store.files import make_folder

_RECORD = re.compile(rb'[^"\r\n]*(?:"[^"]*"[^"\r\n]*)*(?:\r\n|\n|\r|\Z)')
_ENDS = b"\r\n"
_UNSAFE = re.compile(r'[/\\\x00-\x1f:*?"<>|]')


def write_parquet(files: list[Path], draft: Path, plan: Plan, *, is_folder: bool) -> None:
    """Write one file, or a folder with a file for each that there was."""
    if is_folder:
        make_folder(draft)
    start = 0
    for path in files:
        start = _parquet_file(path, draft / path.name if is_folder else draft, plan, start)


def _parquet_file(path: Path, draft: Path, plan: Plan, start: int) -> int:
    with pyarrow.parquet.ParquetFile(path, memory_map=False) as file:
        stop = start + int(file.metadata.num_rows)
        touched = {*plan.drop, *(at for cells in plan.cells.values() for at in cells)}
        if not any(start <= at < stop for at in touched):
            shutil.copyfile(path, draft)
            return stop
        details = file.metadata.row_group(0).column(0) if file.metadata.num_row_groups else None
        compression = details.compression if details is not None else "SNAPPY"
        with pyarrow.parquet.ParquetWriter(draft, file.schema_arrow, compression=compression.lower()) as writer:
            at = start
            for group in range(file.metadata.num_row_groups):
                table = file.read_row_group(group)
                changed = changed_table(table, plan, at)
                at += table.num_rows
                if changed.num_rows:
                    writer.write_table(changed, row_group_size=changed.num_rows)
    return stop


def changed_table(table: pa.Table, plan: Plan, start: int) -> pa.Table:
    """Return the rows that stay, with their new cells; ``start`` is the position of the first."""
    for column, cells in plan.cells.items():
        here = {at - start: value for at, value in cells.items() if start <= at < start + table.num_rows}
        if here:
            place = table.schema.get_field_index(column)
            table = table.set_column(place, table.schema.field(place), _with_cells(table.column(place), here))
    keep = np.ones(table.num_rows, np.bool_)
    keep[[at - start for at in plan.drop if start <= at < start + table.num_rows]] = False
    return table if keep.all() else table.filter(pa.array(keep))


def _with_cells(values: pa.ChunkedArray, cells: dict[int, Written]) -> pa.ChunkedArray:
    kind = values.type
    plain = values.cast(kind.value_type) if pa.types.is_dictionary(kind) else values
    listed = plain.to_pylist()
    for at, value in cells.items():
        listed[at] = value
    try:
        made = pa.array(listed, plain.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(
            f"The label column holds {plain.type}, which cannot take a new label.", hint=f"{error}"
        ) from error
    return pa.chunked_array([made.cast(kind) if pa.types.is_dictionary(kind) else made])


def write_csv(path: Path, draft: Path, plan: Plan) -> None:
    """Write the table line by line; only the cells that change are written anew."""
    content = path.read_bytes()
    delimiter = b"\t" if path.suffix.lower() == ".tsv" else b","
    records = _records(content)
    head = next(records)
    names = [_unquoted(content_of, head.startswith(b"\xef\xbb\xbf")) for content_of in _fields(head, delimiter)]
    places = {column: names.index(column) for column in plan.cells}
    with draft.open("wb") as out:
        out.write(head)
        at = 0
        for record in records:
            if not record.strip(_ENDS):
                out.write(record)
                continue
            if at not in plan.drop:
                new = {places[column]: cells[at] for column, cells in plan.cells.items() if at in cells}
                out.write(_changed(record, new, delimiter) if new else record)
            at += 1
    _require_all(at, plan, path)


def _records(content: bytes) -> Iterator[bytes]:
    for found in _RECORD.finditer(content):
        if found.group():
            yield found.group()


def _fields(record: bytes, delimiter: bytes) -> list[bytes]:
    """Return the cells of a line as they are written, quotes included."""
    body = record.rstrip(_ENDS)
    stop = re.escape(delimiter)
    cell = re.compile(rb'[^"' + stop + rb']*(?:"[^"]*"[^"' + stop + rb"]*)*")
    cells, at = [], 0
    while True:
        found = cell.match(body, at)
        assert found is not None
        cells.append(found.group())
        at = found.end()
        if at >= len(body):
            return cells
        at += 1


def _changed(record: bytes, new: dict[int, Written], delimiter: bytes) -> bytes:
    cells = _fields(record, delimiter)
    for place, value in new.items():
        text = str(value).encode()
        must = cells[place].startswith(b'"') or any(mark in text for mark in (delimiter, b'"', b"\n", b"\r"))
        cells[place] = b'"' + text.replace(b'"', b'""') + b'"' if must else text
    body = record.rstrip(_ENDS)
    return delimiter.join(cells) + record[len(body) :]


def _unquoted(cell: bytes, has_mark: bool) -> str:
    text = (cell.removeprefix(b"\xef\xbb\xbf") if has_mark else cell).decode()
    return text[1:-1].replace('""', '"') if text.startswith('"') and text.endswith('"') and len(text) > 1 else text


def write_jsonl(path: Path, draft: Path, plan: Plan) -> None:
    """Write the lines; those that change are written anew, their keys in the same order."""
    at = 0
    with path.open("rb") as lines, draft.open("wb") as out:
        for line in lines:
            if not line.strip():
                out.write(line)
                continue
            if at not in plan.drop:
                new = {column: cells[at] for column, cells in plan.cells.items() if at in cells}
                if new:
                    body = line.rstrip(_ENDS)
                    record = json.loads(body) | new
                    out.write(json.dumps(record, ensure_ascii=body.isascii()).encode() + line[len(body) :])
                else:
                    out.write(line)
            at += 1
    _require_all(at, plan, path)


def write_folder(path: Path, ids: list[str], draft: Path, plan: Plan, *, copy: bool) -> None:
    """Write class folders: a relabelled file lies in its new class, under its old name or one that is free."""
    classes = plan.cells.get(plan.label, {})
    rows = [(at, row_id) for at, row_id in enumerate(ids) if at not in plan.drop]
    for at, row_id in sorted(rows, key=lambda row: row[0] in classes):  # those that stay keep their names
        inside = row_id
        if at in classes:
            rest = row_id.split("/", 1)[1] if "/" in row_id else row_id
            inside = f"{safe_name(str(classes[at]))}/{rest}"
        goal = free_name(draft / inside)
        make_folder(goal.parent)
        put(path / row_id, goal, copy=copy)


def put(source: Path, goal: Path, *, copy: bool) -> None:
    """Put a file somewhere else: a second name for it where the disk allows that, else a copy."""
    if not copy:
        try:
            os.link(source, goal)
        except OSError:  # another disk, or one without second names
            shutil.copyfile(source, goal)
        return
    shutil.copyfile(source, goal)


def free_name(path: Path) -> Path:
    """Return the path, or one beside it with a number where it is taken."""
    number, goal = 1, path
    while goal.exists():
        number += 1
        goal = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return goal


def safe_name(name: str) -> str:
    """Return a class name as the name of one folder, which can lead nowhere else."""
    cleaned = _UNSAFE.sub("_", name).strip(" .")
    return cleaned or "_"


def _require_all(found: int, plan: Plan, path: Path) -> None:
    if found != plan.n_rows:
        raise DataError(
            f"{path.name} has {found} rows where {plan.n_rows} were read.",
            hint="It was changed meanwhile, or its quotes do not match; export as parquet instead.",
        )
