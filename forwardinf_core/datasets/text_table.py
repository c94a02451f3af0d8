"""Text rows from any store: texts in cells, or one text file a row in a folder.

A text is kept as it is stored, whatever it holds: markup, right-to-left script, NUL characters, nothing at all.
"""

from __future__ import annotations

from forwardinf_core.datasets.rows import Content
from forwardinf_core.datasets.source import RowSource
from forwardinf_core.datasets.stores import RowStore
from forwardinf_core.datasets.table import Table
from forwardinf_core.errors import DataError


class TextTable(Table):
    """The text rows of one store. See ``TextRows``."""

    content: Content = "text"

    def __init__(self, store: RowStore, source: RowSource, *, classes: tuple[str, ...] | None) -> None:
        super().__init__(store, source, classes=classes)
        self._are_files = source.kind == "folder"

    def text(self, position: int) -> str:
        value = self._store.cell(self._content_column, position)
        if value is None:
            return ""
        if self._are_files:
            value = self._read_file(str(value), position)
        if isinstance(value, str):
            return value
        if isinstance(value, bytes):
            return self._decoded(value, position)
        raise DataError(
            f"{self.name_of(position)}: column {self._content_column!r} holds {type(value).__name__}, not a text.",
            hint="Name the column of texts as text: in project.yaml.",
        )

    def payload(self, position: int) -> bytes:
        return self.text(position).encode("utf-8", "surrogatepass")

    def _read_file(self, value: str, position: int) -> bytes:
        try:
            return (self._store.folder / value).read_bytes()
        except OSError as problem:
            raise DataError(f"{self.name_of(position)} cannot be read.", hint=f"{problem}.") from problem

    def _decoded(self, value: bytes, position: int) -> str:
        try:
            return value.decode("utf-8-sig")
        except UnicodeDecodeError as problem:
            raise DataError(
                f"{self.name_of(position)} is not text in UTF-8: byte {problem.start} cannot be read.",
                hint="Save it as UTF-8.",
            ) from problem
