"""The pictures a person asks about: rows of the project, uploads, and images generated here."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from forwardinf_core.datasets.images import decode_image
from forwardinf_core.datasets.rows import ImageRows
from forwardinf_core.errors import DataError
from forwardinf_core.store.files import make_folder, write_bytes

IMAGE = "image:"
KEY = re.compile(r"[0-9a-f]{32}")
MADE = "forwardinf"  # the entry of a PNG in which we say how it was generated


@dataclass(frozen=True)
class Pictures:
    """Pictures by name. What is kept here is re-encoded, under its content's hash, so that links last."""

    train: ImageRows
    test: ImageRows
    folder: Path

    def image(self, query: str) -> Image.Image:
        """Return a picture in its own size. Raises DataError where there is none."""
        split, _, key = query.partition(":")
        if split in ("train", "test") and key:
            rows = self.train if split == "train" else self.test
            return rows.image(rows.position(key))
        return decode_image(self.content(query), name=query)

    def label(self, query: str) -> int:
        """Return the class of a row, −1 where it has none or is no row."""
        split, _, key = query.partition(":")
        if split not in ("train", "test"):
            return -1
        rows = self.train if split == "train" else self.test
        return int(rows.labels[rows.position(key)])

    def made(self, query: str) -> dict[str, float]:
        """Return how a picture was generated here, empty where it was not."""
        if not query.startswith(IMAGE):
            return {}
        said = Image.open(io.BytesIO(self.content(query))).info.get(MADE, "{}")
        found = json.loads(said)
        assert isinstance(found, dict)
        return {str(name): float(value) for name, value in found.items()}

    def keep(self, image: Image.Image, made: Mapping[str, float]) -> str:
        """Keep a generated picture with how it was made, and return its name."""
        info = PngInfo()
        info.add_text(MADE, json.dumps(dict(made), sort_keys=True))
        buffer = io.BytesIO()
        image.save(buffer, "PNG", pnginfo=info)
        return self._kept(buffer.getvalue())

    def add(self, data: bytes, name: str) -> str:
        """Keep an uploaded image without its metadata and return its name. Raises DataError where it is none."""
        buffer = io.BytesIO()
        decode_image(data, name=name).save(buffer, "PNG")
        return self._kept(buffer.getvalue())

    def _kept(self, content: bytes) -> str:
        key = hashlib.sha256(content).hexdigest()[:32]
        make_folder(self.folder)
        write_bytes(self.folder / f"{key}.png", content)
        return f"{IMAGE}{key}"

    def content(self, query: str) -> bytes:
        """Return a kept picture as PNG. Raises DataError where it is not here."""
        key = query.removeprefix(IMAGE)
        if not query.startswith(IMAGE) or not KEY.fullmatch(key):
            raise DataError(
                f"‘{query[:80]}’ is no picture.",
                hint="Pictures are train:ID, test:ID, or an uploaded or generated one.",
            )
        try:
            return (self.folder / f"{key}.png").read_bytes()
        except OSError as error:
            raise DataError("This picture is no longer here.", hint="Generate or upload it again.") from error
