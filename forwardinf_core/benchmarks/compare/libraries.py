"""Influence libraries as contenders, by their documented calls with the settings they suggest (requirements-bench.txt).

captum (TracIn, Pruthi et al. 2020), traker (TRAK, Park et al. 2023), kronfluence (EK-FAC, Grosse et al. 2023), dattri
(its own TRAK). Each is imported only when it is measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from forwardinf_core.benchmarks.compare.contenders import Contender
from forwardinf_core.benchmarks.compare.scene import Scene

if TYPE_CHECKING:
    from kronfluence.analyzer import Analyzer

BATCH = 100
PROJECTED = 512  # dimensions of TRAK's projection; with more than a quarter of the rows it is rank-deficient
OUTPUT_SCALE = 1e-7  # keeps log(1 − p) finite


@dataclass
class Captum:
    """TracInCP: dot products of gradients at checkpoints. ``fast`` reads the last layer alone."""

    fast: bool
    checkpoints: int

    def prepare(self, scene: Scene, model: int) -> None:
        from captum.influence import TracInCP, TracInCPFast

        module = scene.model(model)
        data = TensorDataset(scene.rows, scene.labels)
        used = list(scene.checkpoints[model][-self.checkpoints :])
        names = [str(number) for number in range(len(used))]

        def load(network: nn.Module, name: str) -> float:
            network.load_state_dict(used[int(name)])
            network.eval()
            return 1.0

        loss = nn.CrossEntropyLoss(reduction="sum")
        if self.fast:
            self.tracin = TracInCPFast(module, module.head, data, names, load, loss, BATCH)
        else:
            layers = [n for n, part in module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
            self.tracin = TracInCP(
                module,
                data,
                names,
                load,
                layers,
                nn.CrossEntropyLoss(reduction="sum"),
                BATCH,
                sample_wise_grads_per_batch=True,
            )

    def scores(self, queries: Tensor, labels: Tensor) -> Tensor:
        found: Tensor = self.tracin.influence((queries, labels))
        return found.detach()

    def own_influence(self) -> Tensor:
        """Return the library's self-influence."""
        found: Tensor = self.tracin.self_influence()
        return found.detach()


@dataclass
class Trak:
    """traker's TRAK with one model, projected by its portable projector."""

    def prepare(self, scene: Scene, model: int) -> None:
        import logging

        from trak import TRAKer
        from trak.projectors import BasicProjector, ProjectionType

        self.folder = tempfile.TemporaryDirectory()
        module = scene.model(model)
        self.state = module.state_dict()
        size = sum(value.numel() for value in module.parameters())
        projector = BasicProjector(size, PROJECTED, 0, ProjectionType.rademacher, "cpu", block_size=128)
        self.traker = TRAKer(
            model=module,
            task="image_classification",
            train_set_size=len(scene.labels),
            save_dir=self.folder.name,
            device="cpu",
            projector=projector,
            proj_dim=PROJECTED,
            use_half_precision=False,
            logging_level=logging.ERROR,
        )
        self.traker.load_checkpoint(self.state, model_id=0)
        for batch in zip(torch.split(scene.rows, BATCH), torch.split(scene.labels, BATCH), strict=True):
            self.traker.featurize(batch=batch, num_samples=len(batch[1]))
        self.traker.finalize_features()
        self.asked = 0

    def scores(self, queries: Tensor, labels: Tensor) -> Tensor:
        self.asked += 1
        name = f"asked{self.asked}"
        self.traker.start_scoring_checkpoint(exp_name=name, checkpoint=self.state, model_id=0, num_targets=len(labels))
        for batch in zip(torch.split(queries, BATCH), torch.split(labels, BATCH), strict=True):
            self.traker.score(batch=batch, num_samples=len(batch[1]))
        return torch.from_numpy(self.traker.finalize_scores(exp_name=name).copy()).T.float()

    def own_influence(self) -> None:
        return None


@dataclass
class Kronfluence:
    """EK-FAC influence functions, default damping and sampled labels (its true Fisher)."""

    def prepare(self, scene: Scene, model: int) -> None:
        from kronfluence.analyzer import Analyzer, prepare_model
        from kronfluence.arguments import FactorArguments
        from kronfluence.task import Task

        class Classification(Task):  # type: ignore[misc]  # the library has no types
            def compute_train_loss(self, batch: list[Tensor], model: nn.Module, sample: bool = False) -> Tensor:
                logits = model(batch[0])
                labels = batch[1]
                if sample:
                    with torch.no_grad():
                        labels = torch.multinomial(logits.softmax(1), 1).flatten()
                return F.cross_entropy(logits, labels, reduction="sum")

            def compute_measurement(self, batch: list[Tensor], model: nn.Module) -> Tensor:
                logits = model(batch[0])
                own = logits.gather(1, batch[1].unsqueeze(1)).squeeze(1)
                others = logits.scatter(1, batch[1].unsqueeze(1), -torch.inf).logsumexp(1)
                margins: Tensor = others - own  # as its examples for classifiers measure
                return margins.sum()

        task = Classification()
        self.folder = tempfile.TemporaryDirectory()
        self.rows = TensorDataset(scene.rows, scene.labels)
        self.analyzer: Analyzer = Analyzer(
            "compare",
            prepare_model(scene.model(model), task),
            task,
            cpu=True,
            disable_tqdm=True,
            output_dir=self.folder.name,
            log_level=40,
        )
        self.analyzer.fit_all_factors(
            "ekfac",
            self.rows,
            per_device_batch_size=BATCH,
            factor_args=FactorArguments(strategy="ekfac"),
            overwrite_output_dir=True,
        )
        self.asked = 0

    def scores(self, queries: Tensor, labels: Tensor) -> Tensor:
        self.asked += 1
        name = f"asked{self.asked}"
        self.analyzer.compute_pairwise_scores(
            name,
            "ekfac",
            TensorDataset(queries, labels),
            self.rows,
            per_device_query_batch_size=min(BATCH, len(labels)),
            per_device_train_batch_size=BATCH,
            overwrite_output_dir=True,
        )
        found: dict[str, Tensor] = self.analyzer.load_pairwise_scores(name)
        return found["all_modules"].float()

    def own_influence(self) -> Tensor:
        """Return the library's self-scores."""
        self.analyzer.compute_self_scores(
            "own", "ekfac", self.rows, per_device_train_batch_size=BATCH, overwrite_output_dir=True
        )
        found: dict[str, Tensor] = self.analyzer.load_self_scores("own")
        return found["all_modules"].float()


@dataclass
class Dattri:
    """dattri's TRAK with one model."""

    def prepare(self, scene: Scene, model: int) -> None:
        from dattri.algorithm.trak import TRAKAttributor
        from dattri.task import AttributionTask

        module = scene.model(model)

        def margin(params: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
            image, label = data
            logits = torch.func.functional_call(module, params, (image.unsqueeze(0),))
            chance = torch.exp(-F.cross_entropy(logits, label.unsqueeze(0)))
            return torch.log(chance + OUTPUT_SCALE) - torch.log(1 - chance + OUTPUT_SCALE)

        def chance_of(params: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
            image, label = data
            logits = torch.func.functional_call(module, params, (image.unsqueeze(0),))
            return torch.exp(-F.cross_entropy(logits, label.unsqueeze(0)))

        task = AttributionTask(margin, module, module.state_dict())
        settings = {"device": "cpu", "proj_dim": PROJECTED}
        self.attributor = TRAKAttributor(task, chance_of, projector_kwargs=settings, device="cpu")
        self.attributor.cache(DataLoader(TensorDataset(scene.rows, scene.labels), batch_size=BATCH))

    def scores(self, queries: Tensor, labels: Tensor) -> Tensor:
        found: Tensor = self.attributor.attribute(DataLoader(TensorDataset(queries, labels), batch_size=BATCH))
        return found.T.float().detach()

    def own_influence(self) -> None:
        return None


LIBRARIES: dict[str, Callable[[], Contender]] = {
    "captum TracInCPFast, 1 checkpoint": lambda: Captum(fast=True, checkpoints=1),
    "captum TracInCPFast, 3 checkpoints": lambda: Captum(fast=True, checkpoints=3),
    "captum TracInCP, 3 checkpoints": lambda: Captum(fast=False, checkpoints=3),
    f"traker TRAK, {PROJECTED:,}": Trak,
    "kronfluence EK-FAC": Kronfluence,
    f"dattri TRAK, {PROJECTED:,}": Dattri,
}
