"""A search as a run on disk: ranking, calibration and what the review needs, written once and read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.mislabels import heads, neighbours, networks, ranking, trusted
from forwardinf_core.audits.mislabels.evidence import Evidence
from forwardinf_core.audits.mislabels.opinions import Opinion
from forwardinf_core.audits.mislabels.planted import DRAWS, Calibration, raised
from forwardinf_core.audits.mislabels.records import Suspects, precision_by_cut
from forwardinf_core.audits.mislabels.requirements import notes_on
from forwardinf_core.audits.mislabels.signals import DEFAULT, all_signals, finite
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.runs import RunRecord, save_run

LIKELY = 9  # classes a row that are kept, one for each digit key
MOST_LEFT_OUT = 0.5  # of the rows, by networks that do not learn the suspects
WITNESSES = 5  # trusted rows kept for each row
SURE = 0.9  # chance of being wrong from which a trusted label is doubted too
FIXED = {"id", "score", "label", "suggested_label", "wrong_chance"}


def save(
    evidence: Evidence,
    binding: Binding,
    *,
    retrained: int,
    n_networks: int,
    summary: dict[str, Option],
) -> RunRecord:
    """Compute what is missing, rank, calibrate, and keep the run."""
    labels = evidence.labels
    signals, judgement = ranked(evidence, retrained=retrained, n_networks=n_networks)
    opinion, chance = judgement.opinion, judgement.chance
    frame = pd.DataFrame(
        {
            "id": list(evidence.audit.train_ids),
            "score": judgement.ranking,
            "label": labels.numpy(),
            "suggested_label": suggested_labels(opinion, labels).numpy(),
            "wrong_chance": chance,
            **signals,
        }
    )
    against = evidence.against(WITNESSES)
    more = {
        "nearest": evidence.nearest()[:, : neighbours.SHOWN].to(torch.int32),
        "likely": opinion.classes[:, :LIKELY],
        "likely_share": opinion.log_shares[:, :LIKELY].exp().float(),
        "against": torch.zeros(len(labels), 0, dtype=torch.int32) if against is None else against,
        "trusted_labels": torch.zeros(0, dtype=torch.int64) if evidence.trusted is None else evidence.trusted.labels,
    }
    notes = [*notes_on(evidence.audit.train, labels.numpy(), chance), *_trusted_notes(evidence, chance)]
    step = evidence.trusted_step()
    return save_run(
        evidence.audit.project,
        binding.kind,
        binding.key(),
        options=cast("dict[str, Option]", dict(binding.options)),
        summary={
            **summary,
            "weights": cast("dict[str, Option]", judgement.weights),
            "n_wrong": float(chance.sum()),
            "n_wrong_confident": evidence.confident(evidence.held_out())[1],
            "trusted_step": None if step is None else cast("list[Option]", step[1]["step"].tolist()),
            "trusted_ids": [] if evidence.trusted is None else list(evidence.trusted.ids),
            "notes": cast("list[Option]", notes),
        },
        frames={"suspects": frame},
        tensors={"more": more},
    )


@dataclass(frozen=True)
class Judgement:
    """The default ranking of a search and what it is worth."""

    sides: tuple[str, ...]  # that vote
    weights: dict[str, float]
    ranking: NDArray[np.float32]  # (n,) higher = more suspicious
    chance: NDArray[np.float32]  # (n,) that the label is wrong
    opinion: Opinion  # of the left-out models that vote


def ranked(evidence: Evidence, *, retrained: int, n_networks: int) -> tuple[dict[str, NDArray[np.float32]], Judgement]:
    """Return every signal and the default ranking.

    Where networks are asked for, they do not learn the rows that all other signals rank first, as many as are counted.
    """
    signals = {name: values.numpy() for name, values in all_signals(evidence, retrained=retrained).items()}
    judgement = judge(evidence, signals)
    if not n_networks:
        return signals, judgement
    count = round(min(float(judgement.chance.sum()), MOST_LEFT_OUT * len(judgement.chance)))
    suspects = torch.from_numpy(np.argsort(-judgement.ranking, kind="stable")[:count].copy())
    signals["networks"] = finite(networks.without_suspects(evidence, n_networks, suspects).loss()).numpy()
    return signals, judge(evidence, signals)


def judge(evidence: Evidence, signals: dict[str, NDArray[np.float32]]) -> Judgement:
    """Rank by the signals and calibrate on copies of the labels with planted errors."""
    copies = []
    for draw in range(DRAWS):
        arrays = {name: values.numpy() for name, values in evidence.planted(draw).items()}
        copies.append((arrays, arrays.pop("rows")))
    # The content counts better: no network that could have learnt the errors has a part in it.
    counted = _chance(copies, signals, (evidence.content,)) if evidence.content in signals else None
    by_heart = counted is not None and evidence.by_heart(float(counted.mean()))
    sides = ranking.voting(copies, by_heart=by_heart)
    chance = _chance(copies, signals, sides)
    content = evidence.content in sides
    if content and counted is not None:
        chance = raised(chance, float(counted.sum()))
    weights = ranking.weights_of(sides)
    opinions = []
    if ranking.HELD_OUT in sides:
        opinions.append(evidence.held_out())
    seen = evidence.on_content() if content else None
    if seen is not None:
        opinions.append(seen)
    return Judgement(
        sides,
        {name: weight for name, weight in weights.items() if name in signals},
        ranking.combined(signals, weights),
        chance,
        heads.merged(opinions, evidence.labels),
    )


def _chance(
    copies: Sequence[tuple[ranking.Signals, NDArray[np.bool_]]], signals: ranking.Signals, sides: Sequence[str]
) -> NDArray[np.float32]:
    """Return the chance (n,) that each label is wrong, calibrated on the copies by the sides named."""
    suspicion = np.concatenate([ranking.suspicion(copy, sides) for copy, _ in copies])
    calibration = Calibration.fit(suspicion, np.concatenate([planted for _, planted in copies]))
    return calibration.chance(ranking.suspicion(signals, sides))


def suggested_labels(opinion: Opinion, labels: Tensor) -> Tensor:
    """Return the likeliest class of each row, (n,): its own label where none is likelier."""
    other, share = opinion.other(labels)
    return torch.where(share > opinion.own, other, labels)


def opened(audit: Audit, record: RunRecord) -> Suspects:
    """Read a kept search back."""
    frame, more = record.frame("suspects"), record.tensors("more")
    label = frame["label"].to_numpy(np.int64)
    score, chance = frame["score"].to_numpy(np.float32), frame["wrong_chance"].to_numpy(np.float32)
    return Suspects(
        run_id=record.id,
        method=DEFAULT,
        ids=tuple(frame["id"].astype(str)),
        classes=audit.classes,
        label=label,
        suggested=frame["suggested_label"].to_numpy(np.int64),
        score=score,
        likely=more["likely"].numpy(),
        likely_share=more["likely_share"].numpy(),
        signals={name: frame[name].to_numpy(np.float32) for name in frame.columns if name not in FIXED},
        wrong_chance=chance,
        n_wrong=float(cast("float", record.summary["n_wrong"])),
        n_wrong_by_class=np.bincount(label, weights=chance, minlength=len(audit.classes)).astype(np.float32),
        expected_precision=precision_by_cut(score, chance),
        nearest=more["nearest"].numpy(),
        trusted_ids=tuple(str(one) for one in cast("list[str]", record.summary["trusted_ids"])),
        trusted_labels=more["trusted_labels"].numpy(),
        trusted_against=more["against"].numpy(),
        notes=tuple(str(note) for note in cast("list[str]", record.summary["notes"])),
        created=record.created,
    )


def _trusted_notes(evidence: Evidence, chance: NDArray[np.float32]) -> tuple[str, ...]:
    found = evidence.trusted
    sure = evidence.held_out().loss()[torch.from_numpy(chance >= SURE)]
    if found is None or not len(sure):
        return () if found is None else found.notes
    raw = evidence.raw[0].float()
    spread, mean = torch.std_mean(raw, 0, correction=0)
    features = (found.features - mean) / torch.where(spread > 1e-6, spread, torch.inf)
    head = heads.fit_head(evidence.features, evidence.labels, evidence.n_classes, penalty=evidence.penalty())
    losses = heads.judged(head, features, found.labels).loss()
    return (*found.notes, *trusted.doubt_notes(found, losses, float(sure.quantile(0.25))))
