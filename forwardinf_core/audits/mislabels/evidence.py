"""Everything that is computed on the training rows before they are ranked, each part once and kept as a chunk.

A part is a few named tensors. Killed in the middle, a search reads the finished parts and goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.fitting import FitOptions, kept_pixels, suitable_preprocessing
from forwardinf_core.audits.head_influence import head_influence
from forwardinf_core.audits.mislabels import heads, mirrored, neighbours, ranking, second_opinion
from forwardinf_core.audits.mislabels.heads import Head
from forwardinf_core.audits.mislabels.opinions import Opinion
from forwardinf_core.audits.mislabels.planted import plant
from forwardinf_core.audits.mislabels.smoother import Smoother
from forwardinf_core.audits.mislabels.trusted import Trusted
from forwardinf_core.audits.mislabels.words import word_features
from forwardinf_core.audits.patches import patch_features
from forwardinf_core.datasets.rows import texts_of
from forwardinf_core.influence.head import FEATURES, HeadNetwork
from forwardinf_core.influence.network import slices
from forwardinf_core.jobs.context import JobContext

LARGEST_PATCHED = 32  # pixels; patches of larger images are taken from a reduced copy
BY_HEART = 0.05  # of accuracy, on training rows above what test rows let expect
MOST_GROUPS = 50  # classes up to which each class of the trusted set is a group of its own

Tensors = dict[str, Tensor]


@dataclass
class Evidence:
    """The parts of one search. ``seed`` draws folds, landmarks, halves and planted errors."""

    audit: Audit
    context: JobContext
    labels: Tensor  # (n,)
    trusted: Trusted | None
    folds: int
    seed: int
    name: str = ""  # set before the names of the parts that read the trusted rows
    _opened: dict[str, Tensors] = field(default_factory=dict)

    def part(self, name: str, compute: Callable[[], Tensors]) -> Tensors:
        """Return a part, computed where no chunk holds it."""
        if name not in self._opened:
            kept = self.context.chunks.get(name)
            if kept is None:
                kept = compute()
                self.context.chunks.put(name, kept)
            self._opened[name] = kept
        return self._opened[name]

    def report(self, note: str) -> Callable[[int, int], None]:
        """Return a way to say how far a part is."""
        return lambda done, total: self.context.report(done, total, note)

    @property
    def n_classes(self) -> int:
        return len(self.audit.classes)

    @property
    def raw(self) -> tuple[Tensor, Tensor]:
        """Features (n, d) as the model's head reads them, and outputs (n, c); without a head, both are outputs."""
        place = self.audit.workplace(self.context)
        if self.audit.model.head is None:
            outputs = place.scope("full").base_outputs
            return outputs, outputs
        scope = place.scope("head")
        return scope.rows.batch(0, len(scope.rows))[FEATURES], scope.base_outputs

    @cached_property
    def features(self) -> Tensor:
        """Features with mean 0 and spread 1."""
        return heads.standardised(self.raw[0])

    @cached_property
    def fold_of(self) -> Tensor:
        return torch.from_numpy(heads.folds_of(self.labels.numpy(), self.folds, self.seed))

    @cached_property
    def head(self) -> Head | None:
        """The model's own head, on unscaled features."""
        if self.audit.model.head is None:
            return None
        network = self.audit.workplace(self.context).scope("head").network
        assert isinstance(network, HeadNetwork)
        weight = network.parameters[network.names.weight].float()
        bias = torch.zeros(len(weight)) if network.names.bias is None else network.parameters[network.names.bias]
        return Head(weight, bias.float())

    def own(self) -> Opinion:
        """Return what the audited model says of rows that it has learnt."""
        outputs = self.raw[1]
        step = max(1, heads.BLOCK_NUMBERS // outputs.shape[1])
        return Opinion.joined(
            [
                Opinion.of(outputs[a:b].float().log_softmax(1), self.labels[a:b])
                for a, b in slices(len(self.labels), step)
            ]
        )

    def by_heart(self, share_wrong: float) -> bool:
        """Say whether the model has learnt its rows by heart, or nobody can know.

        A model that has not is right as often as on test rows, where the label is right: 1 − ``share_wrong`` of them.
        """
        said = self.audit.predictions()
        known = said.label >= 0
        if not known.any():
            return True
        elsewhere = float((said.prediction == said.label)[known].mean())
        here = float((self.own().classes[:, 0] == self.labels).float().mean())
        return here - elsewhere * (1.0 - share_wrong) > BY_HEART

    def penalty(self) -> float:
        """Return the heads' penalty, chosen on the first fold."""

        def compute() -> Tensors:
            held_out = self.fold_of == 0
            found = heads.suitable_penalty(self.features, self.labels, self.n_classes, held_out)
            return {"penalty": torch.tensor(found, dtype=torch.float64)}

        return float(self.part("penalty", compute)["penalty"])

    def held_out(self, labels: Tensor | None = None, name: str = "held-out") -> Opinion:
        """Return what heads say of rows they were not fitted on; ``labels`` where others than the given are judged."""
        judged = self.labels if labels is None else labels

        def compute() -> Tensors:
            note = "Fitting heads that leave rows out"
            return heads.held_out_opinion(
                self.features,
                judged,
                self.n_classes,
                self.fold_of.numpy(),
                penalty=self.penalty(),
                report=self.report(note),
            ).tensors("")

        return Opinion.from_tensors(self.part(name, compute), "")

    def nearest(self) -> Tensor:
        """Return the nearest rows of every row, (n, ≤100)."""

        def compute() -> Tensors:
            note = self.report("Finding the nearest rows")
            return {"rows": neighbours.nearest_rows(self.features, neighbours.VOTERS, report=note).to(torch.int32)}

        return self.part("nearest", compute)["rows"].long()

    @property
    def content(self) -> str:
        """The signal that reads the rows themselves, whatever the model thinks of them."""
        return ranking.PATCHES if self.audit.train.content == "image" else ranking.WORDS

    def on_content(self, labels: Tensor | None = None) -> Opinion | None:
        """Return the leave-one-out opinion of a classifier on patches or words; None where texts share no words."""
        judged = self.labels if labels is None else labels

        def compute() -> Tensors:
            features = self._content_features()
            if features is None:
                return {}
            found = Smoother.fit(features, seed=self.seed)
            return {"root": found.root, "leverage": found.leverage}

        kept = self.part("content", compute)
        return Smoother(kept["root"], kept["leverage"]).left_out(judged, self.n_classes) if kept else None

    def _content_features(self) -> Tensor | None:
        train, seed = self.audit.train, self.seed
        if train.content == "text":
            self.context.report(0, 1, "Comparing words")
            return word_features([texts_of(train).text(position) for position in range(len(train))], seed=seed)
        preprocessing = suitable_preprocessing(train, FitOptions(seed=self.seed))
        preprocessing = replace(preprocessing, size=min(preprocessing.size, LARGEST_PATCHED))
        pixels = kept_pixels(self.context, self.audit.project, train, preprocessing)
        return patch_features(pixels, seed=seed, report=self.report("Comparing patches"))

    def halves(self) -> Opinion | None:
        """Return what the model's head says after learning the other half of the rows a little."""
        head = self.head
        if head is None:
            return None

        def compute() -> Tensors:
            features = self.raw[0].float()
            return mirrored.halves_opinion(head, features, self.labels, self.fold_of, seed=self.seed).tensors("")

        return Opinion.from_tensors(self.part("halves", compute), "")

    def self_influence(self) -> Tensor | None:
        """Return every row's influence on itself, through the head's curvature."""
        influence = head_influence(self.audit.workplace(self.context))
        if influence is None:
            return None

        def compute() -> Tensors:
            features, found = self.raw[0], []
            for start, stop in slices(len(self.labels), 500):
                found.append(influence.on_itself(features[start:stop], self.labels[start:stop]))
                self.context.report(stop, len(self.labels), "Asking each row about itself")
            return {"values": torch.cat(found).float()}

        return self.part("self-influence", compute)["values"]

    def trusted_step(self) -> tuple[Opinion, Tensors] | None:
        """Return what the head says after learning the trusted rows a little, and how far it was moved."""
        head, trusted = self.head, self.trusted
        if head is None or trusted is None:
            return None

        def compute() -> Tensors:
            after, step = mirrored.group_step(head, trusted.features, trusted.labels, seed=self.seed)
            found = heads.judged(after, self.raw[0].float(), self.labels).tensors("")
            numbers = [step.rate, float(step.steps), step.held_back_before, step.held_back_after]
            return {**found, "step": torch.tensor(numbers, dtype=torch.float64)}

        kept = self.part(f"{self.name}trusted-step", compute)
        return Opinion.from_tensors(kept, ""), kept

    def curvature_step(self) -> Opinion | None:
        """Return what the head says after one curvature step on half of the trusted rows, its length by the rest."""
        head, trusted = self.head, self.trusted
        influence = head_influence(self.audit.workplace(self.context))
        if head is None or trusted is None or influence is None or not influence.is_exact:
            return None

        def compute() -> Tensors:
            order = torch.randperm(len(trusted.labels), generator=torch.Generator().manual_seed(self.seed))
            learnt, watched = order[: len(order) // 2 + 1], order[len(order) // 2 :]
            features = trusted.features
            solved = influence.solved(features[learnt], trusted.labels[learnt]).mean(0)  # (c, d + 1)
            width = head.weight.shape[1]
            bias = solved[:, width] if solved.shape[1] > width else torch.zeros_like(head.bias)
            change = Head(solved[:, :width], bias)
            after, _ = mirrored.curvature_head(head, change, features[watched], trusted.labels[watched])
            return heads.judged(after, self.raw[0].float(), self.labels).tensors("")

        return Opinion.from_tensors(self.part(f"{self.name}curvature-step", compute), "")

    def class_groups(self) -> Tensor | None:
        """Return how much each row hurts the trusted rows of the class that it hurts most."""
        trusted = self.trusted
        influence = head_influence(self.audit.workplace(self.context))
        if trusted is None or influence is None or not influence.is_exact or self.n_classes > MOST_GROUPS:
            return None

        def compute() -> Tensors:
            solved = influence.solved(trusted.features, trusted.labels)
            present = torch.unique(trusted.labels).tolist()
            groups = torch.stack([solved[trusted.labels == code].mean(0) for code in present])
            helped = influence.on_rows(self.raw[0], self.labels, groups)  # (classes present, n)
            return {"values": -helped.amin(0).float()}

        return self.part(f"{self.name}class-groups", compute)["values"]

    def against(self, count: int) -> Tensor | None:
        """Return the trusted rows that speak against each row, (n, ≤ count)."""
        head, trusted = self.head, self.trusted
        if head is None or trusted is None:
            return None
        features = self.raw[0].float()

        def compute() -> Tensors:
            pair = (trusted.features, trusted.labels)
            return {"rows": mirrored.speaking_against(head, features, self.labels, pair, count).to(torch.int32)}

        return self.part(f"{self.name}against", compute)["rows"]

    def confident(self, opinion: Opinion) -> tuple[Tensor, int]:
        """Return cleanlab's suspicion of each row and its count of wrong labels."""
        found = second_opinion.confident_learning(opinion, self.labels, self.n_classes)
        return found.suspicion, found.n_wrong

    def checkpoint_margin(self) -> Tensor | None:
        """Return minus the mean margin of the logits over the project's checkpoints; None without any."""
        if not self.audit.project.config.checkpoints:
            return None
        rows = torch.arange(len(self.labels))
        total = torch.zeros(len(self.labels))
        members = self.audit.members()
        for member in members:
            outputs = member.workplace(self.context).scope("head" if member.model.head else "full").base_outputs.clone()
            own = outputs[rows, self.labels]
            outputs[rows, self.labels] = float("-inf")
            total += outputs.amax(1) - own
        return total / len(members)

    def planted(self, draw: int) -> Tensors:
        """Return a copy with planted errors, judged anew: labels, which rows are wrong, and the refitted signals."""

        def compute() -> Tensors:
            copy = plant(self.labels.numpy(), self.held_out(), self.seed + 1000 * (draw + 1))
            labels = torch.from_numpy(copy.labels)
            found = {
                "rows": torch.from_numpy(copy.rows),
                "held_out": self.held_out(labels, f"held-out-planted-{draw}").loss(),
            }
            seen = self.on_content(labels)
            if seen is not None:
                found[self.content] = seen.loss()
            return found

        return self.part(f"planted-{draw}", compute)
