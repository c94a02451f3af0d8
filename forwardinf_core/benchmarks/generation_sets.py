"""The pictures that ``bench generation`` paints and traces: scikit-learn's digits, and 2,000 images of Fashion-MNIST.

A set lies as parquet in its own folder; the models trained on it lie beside it and are trained once. Two recipes: that
of the demo ``painter``, and a smaller UNet with v-prediction, which paints recognisable pictures after few steps and so
can be retrained hundreds of times.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

from forwardinf_core.datasets.opening import open_image_rows
from forwardinf_core.datasets.rows import ImageRows
from forwardinf_core.datasets.source import RowSource
from forwardinf_core.errors import DataError
from forwardinf_core.influence.diffusion import Denoising, Prediction
from forwardinf_core.models.denoiser import DiffusionModel, PixelCodec, objective_of
from forwardinf_core.models.denoiser_baseline import SCHEDULE, DenoiserConfig, make_denoiser, suitable_config
from forwardinf_core.models.denoiser_training import DenoiserTraining, train_denoiser
from forwardinf_core.models.parts import fingerprint
from forwardinf_core.projects.demos import painter
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.store.files import make_folder, write_bytes

SetName = Literal["digits", "fashion"]
RecipeName = Literal["small", "painter"]
SPLIT_SEED = 20240301  # the demo's: the same 1,500 digits are trained on
BASE_SEED = 0  # of the model whose pictures are traced; retrainings have others
N_DIGITS, N_FASHION = 1_500, 2_000
SIZES: dict[SetName, int] = {"digits": 8, "fashion": 16}
HELD_OUT = 300  # rows at most that are not trained on


@dataclass(frozen=True)
class PaintRecipe:
    """A UNet, how it is trained, and what it predicts."""

    config: DenoiserConfig
    training: DenoiserTraining  # its seed is replaced by that of each training
    prediction: Prediction

    @property
    def schedule(self) -> dict[str, object]:
        """Return the noise schedule's configuration."""
        return {**SCHEDULE, "prediction_type": self.prediction}

    def objective(self) -> Denoising:
        """Return the loss that is trained and traced."""
        return objective_of(self.schedule, "the benchmark's model")

    def untrained(self, seed: int) -> nn.Module:
        """Return the network as the seed draws it."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module: nn.Module = make_denoiser(self.config)
        return module

    def trained(self, samples: Tensor, labels: Tensor, seed: int, rows: Tensor | None = None) -> nn.Module:
        """Return the network trained from scratch on samples (n, c, h, w) with labels (n,), or on some of them."""
        module = self.untrained(seed)
        options = replace(self.training, seed=seed)
        null_label = self.config.n_classes
        train_denoiser(module, samples, labels, self.objective(), options, null_label=null_label, rows=rows)
        return module

    def model(self, module: nn.Module, classes: tuple[str, ...]) -> DiffusionModel:
        """Return a trained network as the audits take it."""
        return DiffusionModel(
            module=module.eval().requires_grad_(False),
            objective=self.objective(),
            codec=PixelCodec(self.config.channels, self.config.size),
            condition="class",
            classes=classes,
            null_label=self.config.n_classes,
            schedule=self.schedule,
            fingerprint=fingerprint(dict(module.state_dict()), json.dumps(asdict(self.config)), self.prediction),
            kind="baseline",
        )

    def binding(self, kind: str, **prints: str) -> Binding:
        """Return what results of this recipe depend on, beside fingerprints by name."""
        training = asdict(self.training)
        del training["seed"]
        return Binding(
            f"bench-{kind}",
            prints,
            {"model": asdict(self.config), "training": training, "prediction": self.prediction},
        )

    @property
    def words(self) -> str:
        """Return the network's size and training in words."""
        size = sum(value.numel() for value in self.untrained(0).parameters())
        config, training = self.config, self.training
        return (
            f"UNet of width {config.width} with {config.levels} levels, {size:,} parameters, {self.prediction}, "
            f"{training.epochs} epochs of batches of {training.batch_size}"
        )


def recipe_named(name: RecipeName, of: SetName) -> PaintRecipe:
    """Return a recipe for a set's pictures."""
    size = SIZES[of]
    if name == "painter":
        return PaintRecipe(suitable_config(10, 1, size, painter.WIDTH), painter.TRAINING, "epsilon")
    epochs, width = (9, 16) if of == "digits" else (10, 8)
    training = DenoiserTraining(epochs=epochs, batch_size=32, learning_rate=4e-3, averaging=0.98)
    return PaintRecipe(suitable_config(10, 1, size, width), training, "v_prediction")


@dataclass(frozen=True)
class PictureSet:
    """Training rows, rows held out, and the recipe that paints them. ``folder`` keeps all that is made of them."""

    name: str
    folder: Path
    recipe: PaintRecipe
    rows: ImageRows
    held_out: ImageRows

    @cached_property
    def samples(self) -> Tensor:
        """Return the training images as the denoiser takes them, (n, c, h, w)."""
        return encoded(self.recipe, self.rows)

    @cached_property
    def labels(self) -> Tensor:
        """Return the training rows' labels, (n,)."""
        return torch.from_numpy(self.rows.labels.copy())

    @property
    def classes(self) -> tuple[str, ...]:
        return self.rows.classes

    @cached_property
    def base(self) -> DiffusionModel:
        """Return the model trained on all rows, whose pictures are traced; trained once and kept."""
        store = ChunkStore(self.folder / "models", self.recipe.binding("painter", rows=self.rows.fingerprint))
        return self.recipe.model(kept_module(store, f"seed{BASE_SEED}", self.recipe, self._trained), self.classes)

    def _trained(self) -> nn.Module:
        return self.recipe.trained(self.samples, self.labels, BASE_SEED)


def kept_module(store: ChunkStore, key: str, recipe: PaintRecipe, train: Callable[[], nn.Module]) -> nn.Module:
    """Return a trained network, from the store where it is there."""
    kept = store.get(key)
    if kept is None:
        kept = {name: value.contiguous() for name, value in train().state_dict().items()}
        store.put(key, kept)
    module = recipe.untrained(0)
    module.load_state_dict(kept)
    return module.eval()


def encoded(recipe: PaintRecipe, rows: ImageRows) -> Tensor:
    """Return images as the denoiser takes them, (n, c, h, w)."""
    codec = PixelCodec(recipe.config.channels, recipe.config.size)
    return codec.encode([rows.image(position) for position in range(len(rows))])


def open_set(name: SetName, recipe: RecipeName, work: Path, data: Path | None) -> PictureSet:
    """Return a set, written below ``work`` where it is not there. ``data`` is the folder of Fashion-MNIST."""
    chosen = recipe_named(recipe, name)
    train, held = _digits() if name == "digits" else _fashion(data)
    return make_set(name, work / f"{name}-{recipe}", chosen, train, held)


def make_set(name: str, folder: Path, recipe: PaintRecipe, train: pd.DataFrame, held: pd.DataFrame) -> PictureSet:
    """Return a set of tables with id, image (PNG) and label, written into its folder."""
    rows = write_rows(folder, "train", train)
    return PictureSet(name, folder, recipe, rows, write_rows(folder, "held-out", held, classes=rows.classes))


def write_rows(folder: Path, name: str, table: pd.DataFrame, classes: tuple[str, ...] | None = None) -> ImageRows:
    """Write a table as parquet and open it as rows."""
    make_folder(folder)
    buffer = BytesIO()
    table.reset_index(drop=True).to_parquet(buffer)
    write_bytes(folder / f"{name}.parquet", buffer.getvalue())
    return open_image_rows(RowSource(kind="parquet", path=f"{name}.parquet"), root=folder, classes=classes)


def _digits() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the demo's digits without its copies: 1,500 to train on and 297 held out."""
    data = load_digits()
    pixels = np.rint(data.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(pixels))

    def table(rows: NDArray[np.int64]) -> pd.DataFrame:
        content = [_png(pixels[row]) for row in rows.tolist()]
        return pd.DataFrame(
            {"id": [f"digit-{row:04d}" for row in rows.tolist()], "image": content, "label": data.target[rows]}
        )

    return table(order[:N_DIGITS]), table(order[N_DIGITS:])


def _fashion(data: Path | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return 2,000 training images of Fashion-MNIST, 200 a class, and 300 of its test images."""
    if data is None or not (data / "train.parquet").exists():
        raise DataError(
            f"Fashion-MNIST is not in {data}.", hint="Give the folder that holds its train and test.parquet as --data."
        )
    columns = ["id", "image", "label"]
    train, test = (pd.read_parquet(data / f"{part}.parquet", columns=columns) for part in ("train", "test"))
    random = np.random.default_rng(SPLIT_SEED)
    chosen = train.iloc[_by_class(train["label"].to_numpy(), N_FASHION, random)]
    held = test.iloc[_by_class(test["label"].to_numpy(), HELD_OUT, random)]
    return chosen.assign(id=chosen["id"].map("train-{}".format)), held.assign(id=held["id"].map("test-{}".format))


def _by_class(labels: NDArray[np.int64], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return as many random positions of each class, ``count`` in all."""
    classes = np.unique(labels)
    each = count // len(classes)
    return np.sort(np.concatenate([random.permutation(np.flatnonzero(labels == code))[:each] for code in classes]))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
