"""One uploaded picture or text against the training rows, with the spaces and confidence of a finished audit."""

from __future__ import annotations

from typing import cast

import torch

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.context import AtOnce
from forwardinf_core.audits.leakage.detection import fusion_of, is_mirrored
from forwardinf_core.audits.leakage.fitted import spaces_of
from forwardinf_core.audits.leakage.fusion import confidence
from forwardinf_core.audits.leakage.groups import families_in
from forwardinf_core.audits.leakage.medium import medium_of
from forwardinf_core.audits.leakage.records import Pair
from forwardinf_core.audits.leakage.signals import likeness, standing_out
from forwardinf_core.audits.leakage.traces import Traces, described, describer_of
from forwardinf_core.audits.leakage.verdicts import verdict_of
from forwardinf_core.datasets.rows import UNLABELLED
from forwardinf_core.store.runs import RunRecord


def search_one(audit: Audit, record: RunRecord, query: str) -> Pair:
    """Return the training row most like a copy of an upload. Influence is not asked: it has no label."""
    fusion = fusion_of(record)
    place = audit.workplace(AtOnce())
    spaces = spaces_of(place, described(place, audit.train))
    medium, describe = medium_of(audit.content), describer_of(place)
    item = medium.asked(audit.queries, query)
    turned = Traces(describe(item.mirrored())) if medium.turns else None
    found = likeness(spaces, Traces(describe(item)), turned)
    evidence = fusion.evidence(found.features())[0]
    train = int(evidence.argmax())
    names = spaces.names
    crowd = found.nearest.crowd(families_in(record.frame("groups"), len(audit.train)))
    (identical,) = item.same_as(medium.taken(audit.train, [train]))
    best = fusion.evidence(standing_out(found.of_rows(torch.tensor([[train]])), crowd))
    odds = fusion.log_odds(best[0].double().numpy())
    score = 1.0 if identical else float(confidence(odds, float(cast("float", record.summary["prior"])))[0])
    signals = {name: float(found.values[number, 0, train]) for number, name in enumerate(names)}
    leads = {name: signals[name] - float(crowd[0, number]) for number, name in enumerate(names)}
    return Pair(
        query=query,
        train=train,
        score=score,
        verdict=verdict_of(score, signals, medium, is_identical=identical),
        is_mirrored=not identical and is_mirrored(found.mirrored[:, 0, train], names),
        label=UNLABELLED,
        train_label=int(audit.train.labels[train]),
        signals=signals,
        stands_out=leads,
        influence=float("nan"),
        influence_cosine=float("nan"),
    )
