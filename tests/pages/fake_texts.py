"""The stand-in for the services with texts in place of digits; the texts hold what must only ever be shown as text."""

from __future__ import annotations

from forwardinf_core.errors import DataError
from tests.pages.fake_services import HOSTILE, FakeAudit

LONG = "word " * 10_000


class FakeTextAudit(FakeAudit):
    """Answers like the digits do, of which it shows a text each."""

    task = "text-classification"
    content = "text"

    def text(self, split: str, position: int) -> str:
        return LONG if position == 1 else "" if position == 2 else f"{split} row {position} {HOSTILE[position % 6]}"

    def text_of(self, query: str) -> str:
        kind, _, name = query.partition(":")
        return self.text("test", self.test_ids.index(name)) if kind == "test" else self._uploads[name].decode()

    def characters_read(self, text: str) -> int:
        return min(len(text), 100)

    def add_text(self, text: str) -> str:
        if not text.strip():
            raise DataError("The text is empty.", hint="Type or paste what the model should classify.")
        key = f"u{len(self._uploads)}"
        self._uploads[key] = text.encode()
        return f"upload:{key}"

    def _pixels(self, query):  # type: ignore[no-untyped-def]
        return super()._pixels("test:test-0003") if query.startswith("upload:u") else super()._pixels(query)

    def shown(self, query: str) -> bytes:
        raise DataError("These rows are texts, and this needs images.")

    def thumbnail(self, split: str, key: str) -> tuple[bytes, str]:
        raise DataError("These rows are texts, and this needs images.")
