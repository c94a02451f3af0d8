"""The job ``leakage``: every test row against every training row, one read for all, then duplicates within the splits.

Chunks are blocks of test rows; what is planted to learn from is a chunk of its own. The finished run keeps a record
for each test row and the groups, and is read back as long as model, rows and options are the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import pandas as pd
import torch
from torch import Tensor

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.head_influence import HeadInfluence, head_influence, labels_or_predicted
from forwardinf_core.audits.leakage.calibration import Calibration, Planted, calibrate, plant
from forwardinf_core.audits.leakage.checks import check_rows
from forwardinf_core.audits.leakage.fitted import spaces_of
from forwardinf_core.audits.leakage.fusion import Fusion, confidence, estimated_prior
from forwardinf_core.audits.leakage.groups import edges_within, families_of, find_groups
from forwardinf_core.audits.leakage.medium import GREY, HASH, Medium, medium_of
from forwardinf_core.audits.leakage.signals import Nearest, Spaces, likeness, placed, query_block, standing_out
from forwardinf_core.audits.leakage.traces import Traces, described, describer_of
from forwardinf_core.audits.leakage.twins import identical_rows
from forwardinf_core.audits.leakage.verdicts import verdict_of
from forwardinf_core.audits.opening import load_audit
from forwardinf_core.audits.preparation import Workplace
from forwardinf_core.audits.scoring import Clock
from forwardinf_core.influence.network import slices
from forwardinf_core.influence.probe import FEATURES, OUTPUTS
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.registry import job
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.runs import RunRecord, find_run, save_run

KIND = "leakage"
VERSION = 5  # rises when the same options would give other records
KEPT = 5  # training rows kept for each test row, the likeliest first


@dataclass(frozen=True)
class LeakageOptions:
    """``planted``: copies planted to learn from and check on; ``seed``: of everything drawn."""

    seed: int = 0
    planted: int = 700


@dataclass(frozen=True)
class Searched:
    """The best training rows of a block of queries. ``rows`` (q, k); ``values`` (q, k, s): their signals.

    ``near`` and ``near_rows`` (q, s, f): the nearest rows by each signal, from which the best are to stand out.
    """

    rows: Tensor
    values: Tensor
    near: Tensor
    near_rows: Tensor
    mirrored: Tensor  # (q, k, s) bool
    influence: Tensor  # (q, k), NaN without a head
    cosine: Tensor

    @property
    def nearest(self) -> Nearest:
        return Nearest(self.near, self.near_rows)

    def features(self, families: Tensor | None = None) -> Tensor:
        """Return (q, k, 2 s): the signals, and how far each stands out, each family counted once."""
        return standing_out(self.values, self.nearest.crowd(families))

    def tensors(self) -> dict[str, Tensor]:
        """Return what a chunk holds."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def binding(audit: Audit, options: LeakageOptions) -> Binding:
    """Return what a run of this audit is made from."""
    prints = {"model": audit.model.fingerprint, "train": audit.train.fingerprint, "test": audit.test.fingerprint}
    return Binding(KIND, prints, asdict(options), VERSION)


def fingerprints_of(project: Path, _options: LeakageOptions) -> dict[str, str]:
    """Return what the job reads."""
    return dict(binding(load_audit(project), LeakageOptions()).fingerprints)


@job(KIND, version=VERSION, fingerprints=fingerprints_of)
def detect(context: JobContext, options: LeakageOptions) -> dict[str, Option]:
    """Look for every test row among the training rows, and for duplicates within and across the splits."""
    audit = load_audit(context.project)
    record = find_run(audit.project, KIND, binding(audit, options).key())
    if record is None:
        record = _detect(audit, audit.workplace(context), context, options)
    return {"run": record.id}


def _detect(audit: Audit, place: Workplace, context: JobContext, options: LeakageOptions) -> RunRecord:
    notes = check_rows(audit)
    clock = Clock()
    with clock.phase("describe"):
        medium = medium_of(audit.content)
        train, test = described(place, audit.train), described(place, audit.test)
        mirrored = described(place, audit.test, mirrored=True) if medium.turns else None
        head = head_influence(place)
    with clock.phase("calibrate"):
        spaces = spaces_of(place, train)
        calibration = calibrate(spaces, _planted(audit, place, context, options), medium)
    with clock.phase("search"):
        found = _search_all(audit, spaces, calibration, head, (train, test, mirrored), context)
    with clock.phase("groups"):
        joining, share = calibration.joining, _share(calibration.fusion, found.features())
        note = "Looking for duplicates among the {} rows"
        within_train = edges_within(spaces, joining, share, train, context.report, note.format("training"))
        features = found.features(families_of(within_train, len(train)))
        frame, prior = _pairs(audit, medium, spaces.names, calibration.fusion, found, features)
        own, far = placed(spaces.spaces, test), found.nearest.far()
        within_test = edges_within(own, joining, prior, test, context.report, note.format("test"), far)
        groups = find_groups(audit, frame, within_train, within_test)
    summary: dict[str, Option] = {
        "prior": prior,
        "check": asdict(calibration.check),
        "alone": dict(calibration.alone),
        "fusion": {**asdict(calibration.fusion), "signals": list(spaces.names)},
        "notes": list(notes),
        "head": None if head is None else ("exact" if head.is_exact else "factors"),
        "seconds": dict(clock.seconds),
    }
    key = binding(audit, options).key()
    return save_run(
        audit.project, KIND, key, options=asdict(options), summary=summary, frames={"pairs": frame, "groups": groups}
    )


def _planted(audit: Audit, place: Workplace, context: JobContext, options: LeakageOptions) -> Planted:
    kept = context.chunks.get("planted")
    if kept is None:
        planted = plant(audit.train, describer_of(place), context, seed=options.seed, most=options.planted)
        context.chunks.put("planted", planted.tensors())
        return planted
    return Planted.from_tensors(kept)


def _search_all(
    audit: Audit,
    spaces: Spaces,
    calibration: Calibration,
    head: HeadInfluence | None,
    traces: tuple[Traces, Traces, Traces | None],
    context: JobContext,
) -> Searched:
    """Search for all test rows, block by block."""
    train, test, mirrored = traces
    labels = torch.from_numpy(audit.train.labels.copy())
    asked = labels_or_predicted(torch.from_numpy(audit.test.labels.copy()), test.parts[OUTPUTS])
    own = None if head is None else head.on_itself(train.parts[FEATURES], labels)
    parts = []
    for start, stop in slices(len(test), query_block(spaces)):
        key = f"search-{start:010d}"
        kept = context.chunks.get(key)
        if kept is None:
            found = search(
                spaces,
                calibration,
                test.rows(start, stop),
                None if mirrored is None else mirrored.rows(start, stop),
            )
            if head is not None:
                assert own is not None
                queries = test.parts[FEATURES][start:stop]
                found = with_influence(found, head, (train.parts[FEATURES], labels, own), (queries, asked[start:stop]))
            kept = found.tensors()
            context.chunks.put(key, kept)
        parts.append(kept)
        context.report(stop, len(test), "Comparing the test rows with the training rows")
    return Searched(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def search(spaces: Spaces, calibration: Calibration, queries: Traces, mirrored: Traces | None) -> Searched:
    """Return the likeliest training rows of each query by the fused evidence."""
    found = likeness(spaces, queries, mirrored)
    evidence = calibration.fusion.evidence(found.features())  # (q, n)
    rows = evidence.topk(min(KEPT, evidence.shape[1]), dim=1).indices
    query = torch.arange(len(rows)).unsqueeze(1)
    unknown = torch.full(rows.shape, torch.nan)
    turned = found.mirrored.permute(1, 2, 0)[query, rows]
    near = found.nearest
    return Searched(rows, found.of_rows(rows), near.values, near.rows, turned, unknown, unknown)


def with_influence(
    found: Searched, head: HeadInfluence, train: tuple[Tensor, Tensor, Tensor], queries: tuple[Tensor, Tensor]
) -> Searched:
    """Return the same with the influence of each row found on its query, raw and as a cosine.

    ``train``: features, labels and self-influences of the training rows; ``queries``: features and labels.
    """
    features, labels, own = train
    solved = head.solved(*queries)
    itself = head.on_itself(*queries)
    influence = torch.empty_like(found.influence)
    for number in range(len(found.rows)):
        rows = found.rows[number]
        influence[number] = head.on_rows(features[rows], labels[rows], solved[number : number + 1])[0]
    size = (own[found.rows] * itself.unsqueeze(1)).sqrt().clamp_min(torch.finfo(torch.float32).tiny)
    return replace(found, influence=influence, cosine=influence / size)


def _share(fusion: Fusion, features: Tensor) -> float:
    """Return the estimated share of queries that have a copy, features (q, k, 2 s), the likeliest row first."""
    return estimated_prior(fusion.log_odds(fusion.evidence(features[:, 0]).double().numpy()))


def _pairs(
    audit: Audit, medium: Medium, names: tuple[str, ...], fusion: Fusion, found: Searched, features: Tensor
) -> tuple[pd.DataFrame, float]:
    """Return a record for each test row and rank (rank 0 the best), and the estimated share of leaked rows."""
    prior = _share(fusion, features)
    sure = confidence(fusion.log_odds(fusion.evidence(features).double().numpy()), prior)  # (q, k)
    twins = identical_rows(audit.test, audit.train, found.rows.numpy(), found.values.numpy(), names)
    records = []
    for query in range(len(found.rows)):
        order = sorted(range(found.rows.shape[1]), key=lambda rank: not twins[query, rank])  # stable: twins first
        for rank, place in enumerate(order):
            likes = {name: float(found.values[query, place, number]) for number, name in enumerate(names)}
            leads = {name: float(features[query, place, len(names) + n]) for n, name in enumerate(names)}
            score = 1.0 if twins[query, place] else float(sure[query, place])
            records.append(
                {
                    "test": query,
                    "rank": rank,
                    "train": int(found.rows[query, place]),
                    "score": score,
                    "verdict": verdict_of(score, likes, medium, is_identical=bool(twins[query, place])),
                    "mirrored": is_mirrored(found.mirrored[query, place], names),
                    "influence": float(found.influence[query, place]),
                    "influence_cosine": float(found.cosine[query, place]),
                    **likes,
                    **{f"{name}_lead": value for name, value in leads.items()},
                }
            )
    return pd.DataFrame(records), prior


def is_mirrored(by_signal: Tensor, names: tuple[str, ...]) -> bool:
    """Say whether the mirrored query fits better: by the pictures themselves, which know left from right best."""
    seen = dict(zip(names, by_signal.tolist(), strict=True))
    return bool(seen.get(GREY) and seen.get(HASH))


def stored(audit: Audit, options: LeakageOptions | None = None) -> RunRecord | None:
    """Return the finished run, or None."""
    return find_run(audit.project, KIND, binding(audit, options or LeakageOptions()).key())


def fusion_of(record: RunRecord) -> Fusion:
    """Return the fusion that a run learned."""
    said = record.summary["fusion"]
    assert isinstance(said, dict)
    weights = tuple(float(value) for value in cast("list[float]", said["weights"]))
    return Fusion(weights, float(cast("float", said["slope"])), float(cast("float", said["intercept"])))
