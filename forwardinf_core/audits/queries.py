"""What a person asks about: a test row, or an image or a text of their own, as the model sees it."""

from __future__ import annotations

import hashlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from forwardinf_core.datasets.images import decode_image, decode_upload, thumbnail
from forwardinf_core.datasets.rows import UNLABELLED, DataRows, images_of, texts_of
from forwardinf_core.errors import DataError
from forwardinf_core.influence.objective import Batch
from forwardinf_core.models.audit_model import AuditModel
from forwardinf_core.store.files import make_folder, write_bytes, write_json

TEST, UPLOAD = "test:", "upload:"
UPLOAD_KEY = re.compile(r"[0-9a-f]{32}")
TEXT_LIMIT_BYTES = 10 * 1024**2  # of a text asked about; the model reads a few kilobytes of it at most


@dataclass(frozen=True)
class Queries:
    """The queries of one audit. Uploads are kept under their content's hash, so that links last; images re-encoded."""

    model: AuditModel
    test: DataRows
    uploads: Path

    def image(self, query: str) -> Image.Image:
        """Return the query's image in its own size. Raises DataError where there is none."""
        if query.startswith(TEST):
            return images_of(self.test).image(self.test.position(query.removeprefix(TEST)))
        return decode_image(self._kept(query), name=query)

    def text(self, query: str) -> str:
        """Return the query's text, whole. Raises DataError where there is none."""
        if query.startswith(TEST):
            return texts_of(self.test).text(self.test.position(query.removeprefix(TEST)))
        return self._kept(query).decode("utf-8")

    def label(self, query: str) -> int:
        """Return the query's label, −1 where it has none."""
        if query.startswith(TEST):
            return int(self.test.labels[self.test.position(query.removeprefix(TEST))])
        self._upload_path(query)
        return UNLABELLED

    def batch(self, query: str, target: int) -> Batch:
        """Return the query as a batch of one row, asked about the class ``target``."""
        label = {"label": torch.tensor([target])}
        if self.model.content == "text":
            return self.model.encoding([self.text(query)]) | label
        return {"x": self.model.preprocessing([self.image(query)])} | label

    def shown(self, query: str) -> bytes:
        """Return the image as the model sees it, as PNG."""
        buffer = io.BytesIO()
        self.model.preprocessing.shown(self.image(query)).save(buffer, "PNG")
        return buffer.getvalue()

    def content(self, query: str) -> str:
        """Return a SHA-256 of what is asked about, for the key of a run."""
        if self.model.content == "text":
            return hashlib.sha256(self.text(query).encode("utf-8", "surrogatepass")).hexdigest()
        image = self.image(query)
        return hashlib.sha256(f"{image.mode}{image.size}".encode() + image.tobytes()).hexdigest()

    def add_upload(self, data: bytes, name: str) -> str:
        """Keep an image, re-encoded without metadata, or a text in UTF-8, and return its query.

        Raises DataError, in a sentence, for what is no image, or no text where the model reads texts.
        """
        if self.model.content == "text":
            return self.add_text(_decoded(data, name))
        upload = decode_upload(data, name=name)
        buffer = io.BytesIO()
        upload.image.save(buffer, "PNG")
        query = self._keep(buffer.getvalue())
        write_json(self._notes_path(query), {"notes": list(upload.notes)})
        return query

    def notes(self, query: str) -> tuple[str, ...]:
        """Return what was done to an uploaded image before the model saw it, a sentence each."""
        if query.startswith(TEST) or self.model.content == "text":
            return ()
        try:
            found = json.loads(self._notes_path(query).read_text(encoding="utf-8"))["notes"]
        except (OSError, ValueError, LookupError):  # uploaded by an earlier version, or gone with the image
            return ()
        return tuple(str(note) for note in found)

    def _notes_path(self, query: str) -> Path:
        return self._upload_path(query).with_suffix(".notes.json")

    def add_text(self, text: str) -> str:
        """Keep a text as it is and return its query. Raises DataError where it is empty or larger than 10 MB."""
        self.model.encoding  # noqa: B018  # raises where the model reads no texts
        if not text.strip():
            raise DataError("The text is empty.", hint="Type or paste what the model should classify.")
        data = text.encode("utf-8", "replace")
        if len(data) > TEXT_LIMIT_BYTES:
            raise DataError(
                f"The text has {len(data) / 1024**2:.1f} MB; {TEXT_LIMIT_BYTES // 1024**2} MB are the most.",
                hint=f"The model reads its first {self.model.encoding.length} tokens.",
            )
        return self._keep(data)

    def thumbnail(self, query: str) -> tuple[bytes, str]:
        """Return an encoded thumbnail and its media type."""
        return thumbnail(self.image(query)), "image/webp"

    def _keep(self, data: bytes) -> str:
        key = hashlib.sha256(data).hexdigest()[:32]
        make_folder(self.uploads)
        write_bytes(self._path(key), data)
        return f"{UPLOAD}{key}"

    def _kept(self, query: str) -> bytes:
        try:
            return self._upload_path(query).read_bytes()
        except OSError as error:
            word = "text" if self.model.content == "text" else "uploaded image"
            raise DataError(
                f"This {word} is no longer here.", hint="Type it again." if word == "text" else "Upload it again."
            ) from error

    def _upload_path(self, query: str) -> Path:
        key = query.removeprefix(UPLOAD)
        if not query.startswith(UPLOAD) or not UPLOAD_KEY.fullmatch(key):
            raise DataError(
                f"‘{query[:80]}’ is no query.",
                hint=f"Queries are test:ID for a test row, or an uploaded {self.model.content}.",
            )
        return self._path(key)

    def _path(self, key: str) -> Path:
        return self.uploads / f"{key}.{'txt' if self.model.content == 'text' else 'png'}"


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not text in UTF-8: byte {error.start} cannot be read.", hint="Save it as plain text in UTF-8."
        ) from error
