"""What is only measured of texts: natural repeats between the splits, and planted copies of rows nothing learned from.

Kinds of planted copies are those the audit knows, on other rows and another seed, and paraphrases by rule, which it
does not know.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.context import AtOnce
from forwardinf_core.audits.leakage.detection import LeakageOptions, fusion_of, stored
from forwardinf_core.audits.leakage.fitted import spaces_of
from forwardinf_core.audits.leakage.fusion import sigmoid
from forwardinf_core.audits.leakage.medium import Texts, medium_of
from forwardinf_core.audits.leakage.records import EXACT, NONE, Leakage
from forwardinf_core.audits.leakage.signals import likeness
from forwardinf_core.audits.leakage.traces import Traces, described, describer_of
from forwardinf_core.audits.leakage.wordings import normal_form
from forwardinf_core.benchmarks.leakage import Copies, Found, found_of, ranks_of
from forwardinf_core.benchmarks.paraphrases import paraphrased
from forwardinf_core.datasets.rows import texts_of
from forwardinf_core.errors import DataError
from forwardinf_core.influence.network import slices

PARAPHRASED = "paraphrased by rule"
SEED = 1  # the audit plants with seed 0
BATCH = 100


@dataclass(frozen=True)
class Repeats:
    """Test rows that repeat a training row word for word, what the verdict said of them, and what else it said."""

    repeats: int  # test rows with the normal form of a training row
    called_exact: int  # of these
    conflicting: int  # of these, with another label than the training row that was found
    called: int  # test rows called copies of any kind
    others: tuple[tuple[str, str, float, str, str, str], ...]  # test id, train id, confidence, verdict, both texts


@dataclass(frozen=True)
class Planted:
    """One kind of copy: how often each signal finds the origin first, and how often the verdict calls it a copy."""

    kind: str
    signals: tuple[Found, ...]
    called: float  # share with a confidence of at least .5 at even odds, the origin first


def natural_repeats(audit: Audit, found: Leakage) -> Repeats:
    """Compare the verdicts with the normal forms of all rows, which need no model and no MinHash."""
    train, test = texts_of(audit.train), texts_of(audit.test)
    known = {normal_form(train.text(position)) for position in range(len(train))}
    repeats = {number for number in range(len(test)) if normal_form(test.text(number)) in known}
    exact = [pair for number, pair in enumerate(found.pairs) if number in repeats and pair.verdict == EXACT]
    others = sorted(
        (
            (pair, number)
            for number, pair in enumerate(found.pairs)
            if pair.verdict != NONE and not (pair.verdict == EXACT and number in repeats)
        ),
        key=lambda one: -one[0].score,
    )
    return Repeats(
        repeats=len(repeats),
        called_exact=len(exact),
        conflicting=sum(pair.labels == "conflicting label" for pair in exact),
        called=len(found.leaked()),
        others=tuple(
            (
                pair.query.removeprefix("test:"),
                audit.train_ids[pair.train],
                pair.score,
                pair.verdict,
                test.text(number),
                train.text(pair.train),
            )
            for pair, number in others
        ),
    )


def planted_copies(audit: Audit, kind: str, *, most: int = 300) -> Copies:
    """Return altered copies of training rows that the audit's own planting did not draw."""
    train, medium, place = texts_of(audit.train), medium_of(audit.content), audit.workplace(AtOnce())
    describe = describer_of(place)
    chosen, texts = [], []
    for position in _unused(audit):
        text: str | None = train.text(position)
        assert text is not None
        if kind == PARAPHRASED:
            text = paraphrased(text)
        else:
            how = (kind, np.random.default_rng([SEED, medium.kinds.index(kind), position]))
            (text,) = Texts((text,)).altered([how]).texts
        if text is not None:
            chosen.append(position)
            texts.append(text)
        if len(chosen) == most:
            break
    parts = [describe(Texts(tuple(texts[start:stop]))) for start, stop in slices(len(texts), BATCH)]
    traces = Traces({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    truth = np.asarray(chosen, dtype=np.int64)
    return Copies((traces, None), torch.from_numpy(audit.train_labels[truth].copy()), truth)


def measure_planted(audit: Audit, kind: str) -> Planted:
    """Return the figures of one kind of copy."""
    copies = planted_copies(audit, kind)
    ranks = ranks_of(audit, copies)
    return Planted(kind, tuple(found_of(name, values) for name, values in ranks.items()), _called(audit, copies))


def _called(audit: Audit, copies: Copies) -> float:
    record = stored(audit)
    if record is None:
        raise DataError("The leakage audit of this project is not finished.", hint="Run: leakage PROJECT")
    fusion = fusion_of(record)
    place = audit.workplace(AtOnce())
    spaces = spaces_of(place, described(place, audit.train))
    hits = 0
    for start, stop in slices(len(copies.truth), BATCH):
        found = likeness(spaces, copies.traces[0].rows(start, stop), None)
        evidence = fusion.evidence(found.features()).double().numpy()
        own = evidence[np.arange(stop - start), copies.truth[start:stop]]
        hits += int(((sigmoid(fusion.log_odds(own)) >= 0.5) & (own >= evidence.max(1))).sum())
    return hits / max(len(copies.truth), 1)


def _unused(audit: Audit) -> NDArray[np.int64]:
    """Return the rows that the audit did not plant, in an order of their own."""
    count = min(LeakageOptions().planted, len(audit.train) // 2)
    drawn = np.random.default_rng([LeakageOptions().seed, 0]).permutation(len(audit.train))[: 2 * count]
    rest = np.setdiff1d(np.arange(len(audit.train)), drawn)
    shuffled: NDArray[np.int64] = np.random.default_rng(SEED).permutation(rest)
    return shuffled
