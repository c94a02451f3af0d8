"""What the leakage audit has to know of a kind of row, and nothing else of it: pictures, or texts.

Everything between (spaces, fusion, confidence, groups, decisions) works on tensors and is the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from forwardinf_core.audits.leakage import altered_pictures, altered_texts, pictures, wordings
from forwardinf_core.audits.patches import Dictionary
from forwardinf_core.audits.queries import Queries
from forwardinf_core.datasets.rows import Content, DataRows, images_of, texts_of
from forwardinf_core.influence.objective import Batch
from forwardinf_core.models.audit_model import AuditModel

HASH, GREY, PATCHES = "hash", "grey", "patches"  # of pictures
LETTERS, WORDS = "letters", "words"  # of texts
BITS = 64  # of a perceptual hash
ROUNDING = 1e-6

Alteration = tuple[str, np.random.Generator]
"""A kind of alteration and what it draws from."""


class Items(Protocol):
    """Some rows of one kind, in memory."""

    def seen(self, dictionary: Dictionary | None, /) -> dict[str, Tensor]:
        """Return their content as numbers, by signal, each (n, …)."""
        ...

    def inputs(self, model: AuditModel) -> Batch:
        """Return them as a model reads them."""
        ...

    def mirrored(self) -> Items:
        """Return them turned over, left for right; where there is no such thing, as they are."""
        ...

    def altered(self, alterations: Sequence[Alteration | None]) -> Items:
        """Return copies, each altered as it says, or as it is."""
        ...

    def same_as(self, others: Items) -> list[bool]:
        """Say of each whether it is the very same as its other, whatever its file."""
        ...


@dataclass(frozen=True)
class Pictures:
    """Rows that are pictures."""

    images: tuple[Image.Image, ...]

    def seen(self, dictionary: Dictionary | None, /) -> dict[str, Tensor]:
        assert dictionary is not None
        return {
            HASH: torch.from_numpy(pictures.hashes(self.images)),
            GREY: torch.from_numpy(pictures.grey_pictures(self.images)),
            PATCHES: pictures.patches(self.images, dictionary),
        }

    def inputs(self, model: AuditModel) -> Batch:
        return {"x": model.preprocessing(self.images).contiguous(memory_format=torch.channels_last)}

    def mirrored(self) -> Pictures:
        return Pictures(tuple(pictures.mirrored(image) for image in self.images))

    def altered(self, alterations: Sequence[Alteration | None]) -> Pictures:
        both = zip(self.images, alterations, strict=True)
        return Pictures(tuple(altered_pictures.altered(image, *how) if how else image for image, how in both))

    def same_as(self, others: Items) -> list[bool]:
        assert isinstance(others, Pictures)
        return [pictures.same_pixels(*both) for both in zip(self.images, others.images, strict=True)]


@dataclass(frozen=True)
class Texts:
    """Rows that are texts."""

    texts: tuple[str, ...]

    def seen(self, _dictionary: Dictionary | None, /) -> dict[str, Tensor]:
        return {
            LETTERS: torch.from_numpy(wordings.letter_bits(self.texts)),
            WORDS: torch.from_numpy(wordings.word_bits(self.texts)),
        }

    def inputs(self, model: AuditModel) -> Batch:
        return model.encoding(self.texts)

    def mirrored(self) -> Texts:
        return self

    def altered(self, alterations: Sequence[Alteration | None]) -> Texts:
        both = zip(self.texts, alterations, strict=True)
        return Texts(tuple(altered_texts.altered(text, *how) if how else text for text, how in both))

    def same_as(self, others: Items) -> list[bool]:
        assert isinstance(others, Texts)
        return [wordings.is_same_text(*both) for both in zip(self.texts, others.texts, strict=True)]


@dataclass(frozen=True)
class Medium:
    """One kind of row. Thresholds are of likeness by signal, −1 to 1.

    ``near``: a sure copy as like as this is a near one. ``twin``: rows as like as this are evidently the same.
    ``close``: only rows as like as this can be identical. ``turns``: a row may be a copy turned over.
    """

    name: Content
    taken: Callable[[DataRows, Sequence[int]], Items]
    asked: Callable[[Queries, str], Items]
    kinds: tuple[str, ...]
    near: Mapping[str, float]
    twin: Mapping[str, float]
    close: Mapping[str, float]
    turns: bool


def dictionary_of(train: DataRows) -> Dictionary | None:
    """Return the patches that pictures are compared with, drawn from the training rows; None for texts."""
    if train.content != "image":
        return None
    drawn = np.random.default_rng(0).permutation(len(train))[: pictures.SAMPLED].tolist()
    return pictures.dictionary([images_of(train).image(position) for position in sorted(drawn)])


def medium_of(content: Content) -> Medium:
    """Return the medium of rows."""
    return MEDIA[content]


def is_as_like(signals: Mapping[str, float], bounds: Mapping[str, float]) -> bool:
    """Say whether every signal that is bounded reaches its bound."""
    return all(signals[name] >= bound - ROUNDING for name, bound in bounds.items())


def _bits_alike(differing: int) -> float:
    """Return the likeness of two perceptual hashes of which so many bits differ."""
    return 1 - 2 * differing / BITS


MEDIA: dict[Content, Medium] = {
    "image": Medium(
        name="image",
        taken=lambda rows, positions: Pictures(tuple(images_of(rows).image(one) for one in positions)),
        asked=lambda queries, query: Pictures((queries.image(query),)),
        kinds=altered_pictures.KINDS,
        near={GREY: 0.95, HASH: _bits_alike(8)},
        twin={GREY: 0.98, HASH: _bits_alike(6)},
        close={GREY: 0.9999, HASH: 0.9999},
        turns=True,
    ),
    "text": Medium(
        name="text",
        taken=lambda rows, positions: Texts(tuple(texts_of(rows).text(one) for one in positions)),
        asked=lambda queries, query: Texts((queries.text(query),)),
        kinds=altered_texts.KINDS,
        near={LETTERS: 0.7},
        twin={LETTERS: 0.9},
        close={LETTERS: 0.9999},
        turns=False,
    ),
}
