"""What a person asks about: a test row, or an image of their own, as the model sees it."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from forwardinf_core.datasets.images import decode_image, thumbnail
from forwardinf_core.datasets.rows import UNLABELLED, DataRows, images_of
from forwardinf_core.errors import DataError
from forwardinf_core.influence.objective import Batch
from forwardinf_core.models.audit_model import AuditModel
from forwardinf_core.store.files import make_folder, write_bytes

TEST, UPLOAD = "test:", "upload:"
UPLOAD_KEY = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Queries:
    """The queries of one audit. Uploads are kept re-encoded under their content's hash, so that links last."""

    model: AuditModel
    test: DataRows
    uploads: Path

    def image(self, query: str) -> Image.Image:
        """Return the query's image in its own size. Raises DataError where there is none."""
        if query.startswith(TEST):
            return images_of(self.test).image(self.test.position(query.removeprefix(TEST)))
        path = self._upload_path(query)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError("This uploaded image is no longer here.", hint="Upload it again.") from error
        return decode_image(content, name=query)

    def label(self, query: str) -> int:
        """Return the query's label, −1 where it has none."""
        if query.startswith(TEST):
            return int(self.test.labels[self.test.position(query.removeprefix(TEST))])
        self._upload_path(query)
        return UNLABELLED

    def batch(self, query: str, target: int) -> Batch:
        """Return the query as a batch of one row, asked about the class ``target``."""
        return {"x": self.model.preprocessing([self.image(query)]), "label": torch.tensor([target])}

    def shown(self, query: str) -> bytes:
        """Return the image as the model sees it, as PNG."""
        buffer = io.BytesIO()
        self.model.preprocessing.shown(self.image(query)).save(buffer, "PNG")
        return buffer.getvalue()

    def content(self, query: str) -> str:
        """Return a SHA-256 of what is asked about, for the key of a run."""
        image = self.image(query)
        return hashlib.sha256(f"{image.mode}{image.size}".encode() + image.tobytes()).hexdigest()

    def add_upload(self, data: bytes, name: str) -> str:
        """Keep an image, re-encoded without metadata, and return its query. Raises DataError where it is none."""
        image = decode_image(data, name=name)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        key = hashlib.sha256(buffer.getvalue()).hexdigest()[:32]
        make_folder(self.uploads)
        write_bytes(self.uploads / f"{key}.png", buffer.getvalue())
        return f"{UPLOAD}{key}"

    def thumbnail(self, query: str) -> tuple[bytes, str]:
        """Return an encoded thumbnail and its media type."""
        return thumbnail(self.image(query)), "image/webp"

    def _upload_path(self, query: str) -> Path:
        key = query.removeprefix(UPLOAD)
        if not query.startswith(UPLOAD) or not UPLOAD_KEY.fullmatch(key):
            raise DataError(
                f"‘{query[:80]}’ is no query.", hint="Queries are test:ID for a test row, or an uploaded image."
            )
        return self.uploads / f"{key}.png"
