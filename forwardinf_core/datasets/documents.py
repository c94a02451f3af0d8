"""Training texts of a language model, from tables or a folder of text files, held in memory: text is small."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from forwardinf_core.datasets.hub import open_dataset
from forwardinf_core.datasets.identity import IdIndex
from forwardinf_core.datasets.parquet import ParquetStore
from forwardinf_core.datasets.stores import RowStore, TableStore, open_csv, open_jsonl
from forwardinf_core.errors import DataError

TEXT_ENDINGS = (".txt", ".md")


class DocumentSource(BaseModel):
    """Where a set of texts lies. A column left out is looked for under its usual name; one that is named must be there.

    ``target`` is what a sequence-to-sequence model should say of each text. For ``folder`` every text file is a text
    and its path the id.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["parquet", "csv", "jsonl", "folder", "datasets"]
    path: str = Field(min_length=1, description="File or folder inside the project; for datasets also a name")
    id: str | None = Field(default=None, description="Column of unique ids; rows are numbered from 0 without one")
    text: str | None = Field(default=None, description="Column of texts")
    target: str | None = Field(default=None, description="Column of what should be said of each text (seq2seq-lm)")
    split: str | None = Field(default=None, description="For datasets with several splits: train, test, …")


class Documents:
    """Texts with unique ids. ``columns`` names further columns, for filters and groups. See ``tracing.Corpus``."""

    def __init__(self, store: RowStore, source: DocumentSource) -> None:
        self._store = store
        text = _column(store, source.text, ("text", "document", "sentence"), "text")
        if text is None:
            raise DataError(
                f"No column of {store.where} holds the texts.",
                hint=f"Columns found: {', '.join(store.columns)}. Name it as text: in project.yaml.",
            )
        own_id = _column(store, source.id, ("id",), "id")
        target = _column(store, source.target, (), "target")
        self.ids: Sequence[str] = (
            [str(position) for position in range(len(store))] if own_id is None else _ids(store, own_id)
        )
        self._index = IdIndex(self.ids, store.where)
        self.texts: Sequence[str] = _texts(store, text)
        self.targets: Sequence[str] | None = None if target is None else _texts(store, target)
        self.columns = tuple(name for name in store.columns if name not in (text, target, own_id))

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over ids, texts and targets."""
        content = [list(self.ids), list(self.texts), None if self.targets is None else list(self.targets)]
        return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()

    def position(self, own_id: str) -> int:
        """Return the position of a text. Raises DataError that names near ids where there is none."""
        return self._index.position(own_id)

    def column(self, name: str) -> list[str]:
        """Return a further column as words. Raises DataError with the columns there are."""
        if name not in self.columns:
            raise DataError(
                f"There is no column {name!r} beside the texts.",
                hint=f"There are: {', '.join(self.columns) or 'none'}.",
            )
        return ["" if value is None else str(value) for value in self._store.values(name).to_pylist()]


def open_documents(source: DocumentSource, root: Path, *, allow_outside: bool = False) -> Documents:
    """Open the texts of a project. Raises DataError where files, columns, ids or texts are wrong."""
    path = root / source.path
    if not allow_outside and not Path(os.path.realpath(path)).is_relative_to(root.resolve()):
        raise DataError(
            f"{source.path} lies outside the project folder.",
            hint="Move it into the project folder, or allow files outside it.",
        )
    if source.kind == "datasets":
        store: RowStore = open_dataset(path, name=source.path, split=source.split)
    elif not path.exists():
        raise DataError(f"{source.path} does not exist.", hint=f"Looked in {root.resolve()}.")
    elif source.kind == "folder":
        store = _folder(path, source.path)
    elif source.kind == "parquet":
        files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
        if not files:
            raise DataError(f"{source.path} holds no parquet files.", hint="Name the file, or a folder with some.")
        store = ParquetStore(files, where=source.path)
    elif source.kind == "jsonl":
        store = open_jsonl(path)
    else:
        named = [name for name in (source.id, source.text, source.target) if name is not None]
        store = open_csv(path, text_columns=tuple(dict.fromkeys([*named, "id", "text"])))
    if len(store) == 0:
        raise DataError(f"{store.where} has no texts.", hint="At least one text is needed.")
    return Documents(store, source)


def _folder(path: Path, name: str) -> TableStore:
    if not path.is_dir():
        raise DataError(f"{name} is a file, not a folder of texts.", hint="Set kind to the kind of the file.")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in TEXT_ENDINGS and file.is_file())
    ids = [file.relative_to(path).as_posix() for file in files]
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    folders = [Path(own).parent.as_posix() for own in ids]
    return TableStore(pa.table({"id": ids, "text": texts, "folder": folders}), where=name, folder=path)


def _column(store: RowStore, named: str | None, usual: tuple[str, ...], role: str) -> str | None:
    if named is not None and named not in store.columns:
        raise DataError(
            f"There is no column {named!r} for the {role} in {store.where}.",
            hint=f"Columns found: {', '.join(store.columns)}.",
        )
    return named or next((name for name in usual if name in store.columns), None)


def _ids(store: RowStore, column: str) -> list[str]:
    found = store.values(column).to_pylist()
    empty = sum(value is None or value == "" for value in found)
    if empty:
        raise DataError(
            f"{store.where} has {empty} texts without an id in column {column!r}.",
            hint="Every text needs its own id; leave the id column out to number the texts instead.",
        )
    return [str(value) for value in found]


def _texts(store: RowStore, column: str) -> list[str]:
    values = store.values(column).to_pylist()
    wrong = next((value for value in values if value is not None and not isinstance(value, str)), None)
    if wrong is not None:
        raise DataError(
            f"Column {column!r} of {store.where} holds {type(wrong).__name__}, not text.",
            hint="Name the column of texts as text: in project.yaml.",
        )
    return ["" if value is None else value for value in values]
