"""Scores of a project's training rows for several queries by any named method or baseline, as one matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.context import Context
from forwardinf_core.audits.methods import method_named
from forwardinf_core.audits.scoring import score_group
from forwardinf_core.errors import ModelError
from forwardinf_core.influence.head import FEATURES, HeadNetwork
from forwardinf_core.influence.objective import Batch
from forwardinf_core.verification.estimates import head_estimates, plain_scores
from forwardinf_core.verification.retraining import Examples

BASELINES = ("gradient-dot", "gradient-cosine", "feature-similarity", "loss", "random")
"""Beside every method, on the last layer's features; where the model has no head, the last three on its outputs."""

GROUP = 20  # queries that share one read of the rows

Floats = NDArray[np.float64]


def scores_of(audit: Audit, names: Sequence[str], queries: NDArray[np.int64], context: Context) -> dict[str, Floats]:
    """Return scores (n_queries, n_train) by name, positive = helped; ``queries`` are positions of labelled test rows.

    A query whose step is refused (its gradient is zero) scores 0 on every row, which a rank correlation leaves out.
    A baseline that this model cannot have is absent.
    """
    asked = [audit.queries.batch(f"test:{audit.test_ids[p]}", int(audit.test.labels[p])) for p in queries.tolist()]
    baselines = _baselines(audit, asked, context) if set(names) & set(BASELINES) else {}
    found: dict[str, Floats] = {}
    for name in names:
        if name not in BASELINES:
            found[name] = _by_method(audit, name, asked, context)
        elif name in baselines:
            found[name] = baselines[name]
    return found


def _by_method(audit: Audit, name: str, asked: Sequence[Batch], context: Context) -> Floats:
    place, method = audit.workplace(context), method_named(name)

    def together(batches: Sequence[Batch]) -> list[Floats]:
        tables = [one.table for one in score_group(place, method, batches).queries]
        return [table.score.astype(np.float64) for table in tables]

    rows: list[Floats] = []
    for start in range(0, len(asked), GROUP):
        group = asked[start : start + GROUP]
        try:
            rows += together(group)
        except ModelError:
            rows += [_or_nothing(together, batch, len(audit.train_ids)) for batch in group]
    return np.stack(rows)


def _or_nothing(together: Callable[[Sequence[Batch]], list[Floats]], batch: Batch, n_rows: int) -> Floats:
    try:
        return together([batch])[0]
    except ModelError:
        return np.zeros(n_rows)


def _baselines(audit: Audit, asked: Sequence[Batch], context: Context) -> dict[str, Floats]:
    place = audit.workplace(context)
    name = "full" if audit.model.head is None else "head"
    scope = place.scope(name)
    labels = torch.from_numpy(audit.train_labels.copy())
    own = torch.cat([batch["label"] for batch in asked])
    if isinstance(scope.network, HeadNetwork):
        features = scope.rows.batch(0, len(scope.rows))[FEATURES]
        embedded = torch.cat([scope.embed(batch)[FEATURES] for batch in asked])
        weights = _with_bias(scope.network).double()
        return head_estimates(Examples(features, labels), Examples(embedded, own), weights)
    with torch.inference_mode():
        outputs = torch.cat([scope.network.outputs(scope.network.parameters, batch) for batch in asked])
    base = scope.base_outputs
    losses = audit.model.objective.losses(base, {"label": labels})
    return plain_scores(Examples(base, labels), Examples(outputs, own), lambda: losses)


def _with_bias(network: HeadNetwork) -> Tensor:
    matrix = network.names.matrix(network.parameters)
    return matrix if network.names.bias is not None else torch.nn.functional.pad(matrix, (0, 1))
