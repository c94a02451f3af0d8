"""The signals of one search by name, each higher = more suspicious, and what a person should know of each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from forwardinf_core.audits.mislabels import neighbours, networks
from forwardinf_core.audits.mislabels.evidence import Evidence
from forwardinf_core.audits.mislabels.opinions import Opinion

DEFAULT = "default"

SIGNALS: dict[str, str] = {
    "loss": "loss of the audited model, which has learnt the row",
    "margin": "log-odds of the likeliest other class under the audited model",
    "held_out": "loss under heads that were not fitted on the row",
    "held_out_margin": "log-odds of the likeliest other class under those heads",
    "neighbours": "share of the 100 nearest rows with another label",
    "patches": "leave-one-out loss of a kernel classifier on image patches, without the audited model",
    "words": "leave-one-out loss of a kernel classifier on words, without the audited model",
    "confident_learning": "cleanlab's normalised margin on the probabilities of the held-out heads",
    "self_influence": "influence of the row on itself through the head's curvature",
    "mirrored_halves": "loss after the head has learnt the other half of the rows a little",
    "mirrored": "loss after the head has learnt the trusted rows a little",
    "curvature": "loss after one curvature step of the head on the trusted rows",
    "class_groups": "how much the row hurts the trusted rows of the class that it hurts most",
    "aum": "minus the mean margin over the checkpoints",
    "retrained": "loss under networks that were trained without the row",
    "networks": "loss of the mean probability of networks that were trained without the suspects",
}
TRUSTED_ONLY = ("mirrored", "curvature", "class_groups")
IMAGES_ONLY = ("patches",)
TEXTS_ONLY = ("words",)


def all_signals(evidence: Evidence, *, retrained: int) -> dict[str, Tensor]:
    """Return every signal that this project allows, (n,) each, but ``networks``, which leaves out what these find."""
    labels = evidence.labels
    own, held_out = evidence.own(), evidence.held_out()
    found: dict[str, Tensor] = {
        "loss": own.loss(),
        "margin": own.margin(labels),
        "held_out": held_out.loss(),
        "held_out_margin": held_out.margin(labels),
        "neighbours": neighbours.disagreement(evidence.nearest(), labels),
        "confident_learning": evidence.confident(held_out)[0],
    }
    further: dict[str, Callable[[], Tensor | None]] = {
        evidence.content: lambda: _loss(evidence.on_content()),
        "self_influence": evidence.self_influence,
        "mirrored_halves": lambda: _loss(evidence.halves()),
        "mirrored": lambda: _loss(step[0] if (step := evidence.trusted_step()) else None),
        "curvature": lambda: _loss(evidence.curvature_step()),
        "class_groups": evidence.class_groups,
        "aum": evidence.checkpoint_margin,
    }
    for name, compute in further.items():
        values = compute()
        if values is not None:
            found[name] = values
    if retrained:
        found["retrained"] = networks.left_out(evidence, retrained).loss()
    return {name: finite(values) for name, values in found.items()}


def finite(values: Tensor) -> Tensor:
    """Return a signal without infinities."""
    return torch.nan_to_num(values.float(), posinf=1e4, neginf=-1e4)


def _loss(opinion: Opinion | None) -> Tensor | None:
    return None if opinion is None else opinion.loss()
