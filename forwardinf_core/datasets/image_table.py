"""Image rows from any store: bytes in cells, or paths to image files."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from PIL import Image

from forwardinf_core.datasets.identity import listed
from forwardinf_core.datasets.images import decode_image
from forwardinf_core.datasets.rows import Content
from forwardinf_core.datasets.source import RowSource
from forwardinf_core.datasets.stores import RowStore
from forwardinf_core.datasets.table import Table, holds_text
from forwardinf_core.errors import DataError


class ImageTable(Table):
    """The image rows of one store. See ``ImageRows``."""

    content: Content = "image"

    def __init__(
        self, store: RowStore, source: RowSource, *, classes: tuple[str, ...] | None, boundary: Path | None
    ) -> None:
        super().__init__(store, source, classes=classes)
        self._boundary = boundary
        if holds_text(store, self._content_column):
            self._check_files()

    def image(self, position: int) -> Image.Image:
        return decode_image(self.payload(position), name=self.name_of(position))

    def payload(self, position: int) -> bytes:
        value = self._store.cell(self._content_column, position)
        if isinstance(value, dict):  # as Hugging Face datasets writes images
            value = value.get("path") if value.get("bytes") is None else value["bytes"]
        if isinstance(value, bytes):
            return value
        if isinstance(value, str) and value:
            return self._read_file(value, position)
        if value is None or value == "":
            raise DataError(f"{self.name_of(position)} has no image.", hint="Leave the row out or give it an image.")
        raise DataError(
            f"{self.name_of(position)}: column {self._content_column!r} holds {type(value).__name__}, not an image.",
            hint="Expected image bytes, paths to image files, or records with bytes and path.",
        )

    def _read_file(self, value: str, position: int) -> bytes:
        path = self._store.folder / value
        if self._boundary is not None and not Path(os.path.realpath(path)).is_relative_to(self._boundary):
            raise self._outside(value, position)
        try:
            return path.read_bytes()
        except (OSError, ValueError) as problem:
            raise DataError(
                f"{self.name_of(position)}: the image file {value} cannot be read.", hint=f"{problem}."
            ) from problem

    def _check_files(self) -> None:
        """Raise DataError now, not in the middle of an audit, where image files are missing or lie outside."""
        folder_inside = lru_cache(maxsize=4096)(self._is_inside)
        missing = []
        for position, value in enumerate(self._store.values(self._content_column).to_pylist()):
            path = os.path.join(self._store.folder, value or "")
            if not folder_inside(os.path.dirname(path)):
                raise self._outside(str(value), position)
            if not os.path.isfile(path):
                missing.append(value or f"(none in row {self.ids[position]})")
        if missing:
            raise DataError(
                f"{self._store.where}: {len(missing)} of {len(self)} image files do not exist: {listed(missing)}.",
                hint=f"Paths start at {self._store.folder}.",
            )

    def _is_inside(self, folder: str) -> bool:
        return self._boundary is None or Path(os.path.realpath(folder)).is_relative_to(self._boundary)

    def _outside(self, value: str, position: int) -> DataError:
        return DataError(
            f"{self.name_of(position)}: the image file {value} lies outside the project folder.",
            hint="Move the images into the project folder, or allow files outside it.",
        )
