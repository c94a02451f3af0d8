"""Retraining the last linear layer alone, on cached features: exact, without random numbers, many subsets in seconds.

The features stay those of the project's model, so this tells what a row does through the last layer, and not what it
did to the layers before. The head is refitted from its own optimum under a small penalty, which the model's trained
head only approximates: outcomes are compared with ``outcome_of_all``, never with the model's own predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.context import AtOnce, Context
from forwardinf_core.datasets.rows import UNLABELLED
from forwardinf_core.influence.head import FEATURES
from forwardinf_core.verification.logistic import LogisticRows
from forwardinf_core.verification.retraining import Examples, Outcome, Report, Task

RELATIVE_PENALTY = 1e-3
"""l2, as a share of the mean squared feature: small beside the data, large enough for one clear optimum."""

AT_ONCE = 64  # refits between two reports


@dataclass(frozen=True)
class HeadRetraining:
    """Refits a linear head on subsets of ``rows`` and watches ``watched``; inputs of both are features (n, d)."""

    rows: Examples
    watched: Examples
    n_classes: int

    @cached_property
    def l2(self) -> float:
        """The penalty on the weights."""
        return RELATIVE_PENALTY * float(self.rows.inputs.double().square().mean())

    @cached_property
    def _labelled(self) -> Tensor:
        return (self.rows.labels != UNLABELLED).nonzero().flatten()

    def outcomes(self, tasks: Sequence[Task], report: Report | None = None) -> list[Outcome]:
        """Return the outcome of each task, in order. Seeds make no difference: there is one optimum.

        Raises DataError where a task leaves no labelled row.
        """
        problem, extra = self._problem(tasks)
        outputs: list[Tensor] = []
        watched = torch.nn.functional.pad(self.watched.inputs.double(), (0, 1), value=1.0)
        for start in range(0, len(tasks), AT_ONCE):
            part = tasks[start : start + AT_ONCE]
            weightings = torch.stack([self._weighting(task, extra) for task in part])
            refits = problem.refit(weightings)
            outputs += list(problem.logits(refits.weights, watched).transpose(0, 1).float())
            if report is not None:
                report((start + len(part)) / len(tasks), f"{start + len(part)} of {len(tasks)} heads refitted")
        return [Outcome(one, self.watched.labels) for one in outputs]

    def outcome_of_all(self) -> Outcome:
        """Return the outcome of the head fitted on all rows: what others are compared with."""
        return self.outcomes([Task.without(len(self.rows), [], seed=0, name="on all rows")])[0]

    def _problem(self, tasks: Sequence[Task]) -> tuple[LogisticRows, dict[tuple[int, int], int]]:
        """Return the regression, and where in its rows each (position, other label) stands that a task asks for."""
        asked = sorted({pair for task in tasks for pair in task.labels.items() if pair[1] != UNLABELLED})
        if not asked:
            return self._plain, {}
        positions, labels = ([pair[side] for pair in asked] for side in (0, 1))
        problem = self._plain.extended(self.rows.inputs[positions], torch.tensor(labels))
        return problem, {pair: len(self._labelled) + place for place, pair in enumerate(asked)}

    @cached_property
    def _plain(self) -> LogisticRows:
        features, labels = self.rows.inputs[self._labelled], self.rows.labels[self._labelled]
        return LogisticRows(features, labels, n_classes=self.n_classes, l2=self.l2)

    def _weighting(self, task: Task, extra: dict[tuple[int, int], int]) -> Tensor:
        chosen = torch.zeros(len(self.rows), dtype=torch.float64)
        chosen[torch.as_tensor(task.subset)] = 1.0
        moved = [pair for pair in task.labels.items() if chosen[pair[0]] > 0]
        chosen[[position for position, _ in moved]] = 0.0
        weighting = torch.cat([chosen[self._labelled], chosen.new_zeros(len(extra))])
        weighting[[extra[pair] for pair in moved if pair[1] != UNLABELLED]] = 1.0
        return weighting


def head_retraining_of(
    audit: Audit, queries: Sequence[str], targets: Sequence[int], context: Context | None = None
) -> HeadRetraining:
    """Return the retraining of a project's head, watched on queries ("test:ID", uploads) asked about ``targets``.

    Needs the head's cache, which is made where it is missing: give a job's context then. Raises ModelError where the
    model has no linear head.
    """
    scope = audit.workplace(context or AtOnce()).scope("head")
    features = scope.rows.batch(0, len(scope.rows))[FEATURES]
    with torch.inference_mode():
        asked = [
            scope.embed(audit.queries.batch(q, target))[FEATURES] for q, target in zip(queries, targets, strict=True)
        ]
    rows = Examples(features.clone(), torch.from_numpy(audit.train_labels.copy()))
    watched = Examples(torch.cat(asked).clone(), torch.tensor(list(targets), dtype=torch.int64))
    return HeadRetraining(rows, watched, len(audit.classes))
