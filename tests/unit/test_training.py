"""Training: repeatable to the byte, resumable, and honest about what it cannot do."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from forwardinf_core.errors import DataError, ModelError
from forwardinf_core.models.baseline import Baseline, BaselineConfig
from forwardinf_core.models.training import (
    TrainingOptions,
    TrainingState,
    augmented,
    evaluate,
    suitable_options,
    train,
)


def normalise(pixels: Tensor) -> Tensor:
    return pixels.float().div_(127.5).sub_(1.0)


def fresh_module(seed: int = 0) -> Baseline:
    torch.manual_seed(seed)
    return Baseline(BaselineConfig(n_classes=3, channels=1, size=8, width=8))


@pytest.fixture
def stripes() -> tuple[Tensor, Tensor]:
    """Return 60 noisy 8×8 images: vertical stripes, horizontal stripes, or none."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    pixels = torch.randint(0, 120, (60, 1, 8, 8), generator=generator)
    pixels[labels == 0, :, :, ::2] += 100
    pixels[labels == 1, :, ::2, :] += 100
    return pixels.to(torch.uint8), labels


OPTIONS = TrainingOptions(epochs=4, batch_size=16, learning_rate=0.1, shift=1, flip=True, held_out=0.2)


def test_interrupted_training_ends_in_the_same_bytes(stripes: tuple[Tensor, Tensor]) -> None:
    states: list[TrainingState] = []
    whole = train(fresh_module(), *stripes, OPTIONS, normalise=normalise, on_epoch=states.append)
    for state in states[:-1]:
        read_back = TrainingState.from_tensors({name: value.clone() for name, value in state.tensors().items()})
        resumed = train(fresh_module(seed=9), *stripes, OPTIONS, normalise=normalise, resume=read_back)
        assert resumed.history == whole.history
        assert all(torch.equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)


def test_an_exception_in_on_epoch_ends_training_and_its_state_is_enough_to_go_on(
    stripes: tuple[Tensor, Tensor],
) -> None:
    kept: list[TrainingState] = []

    def interrupt(state: TrainingState) -> None:
        kept.append(state)
        if state.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(fresh_module(), *stripes, OPTIONS, normalise=normalise, on_epoch=interrupt)
    resumed = train(fresh_module(), *stripes, OPTIONS, normalise=normalise, resume=kept[-1])
    whole = train(fresh_module(), *stripes, OPTIONS, normalise=normalise)
    assert all(torch.equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)


def test_resuming_a_finished_training_changes_nothing(stripes: tuple[Tensor, Tensor]) -> None:
    states: list[TrainingState] = []
    whole = train(fresh_module(), *stripes, OPTIONS, normalise=normalise, on_epoch=states.append)
    again = train(fresh_module(), *stripes, OPTIONS, normalise=normalise, resume=states[-1])
    assert all(torch.equal(again.weights[name], whole.weights[name]) for name in whole.weights)


def test_the_loss_falls_and_the_task_is_learnt(stripes: tuple[Tensor, Tensor]) -> None:
    module = fresh_module()
    options = TrainingOptions(epochs=12, batch_size=16, shift=1)
    result = train(module, *stripes, options, normalise=normalise)
    assert result.history[-1].loss < 0.5 * result.history[0].loss
    assert evaluate(module, *stripes, normalise=normalise)[1] == 1.0
    assert not module.training


def test_another_seed_gives_another_model(stripes: tuple[Tensor, Tensor]) -> None:
    first = train(fresh_module(), *stripes, OPTIONS, normalise=normalise).weights["head.weight"]
    other_options = TrainingOptions(epochs=4, batch_size=16, shift=1, flip=True, held_out=0.2, seed=1)
    other = train(fresh_module(), *stripes, other_options, normalise=normalise).weights["head.weight"]
    assert not torch.equal(first, other)


def test_unlabelled_rows_are_left_out(stripes: tuple[Tensor, Tensor]) -> None:
    pixels, labels = stripes
    labelled = torch.arange(0, 60, 2)
    partly = torch.full_like(labels, -1)
    partly[labelled] = labels[labelled]
    options = TrainingOptions(epochs=1, batch_size=16)
    left_out = train(fresh_module(), pixels, partly, options, normalise=normalise)
    chosen = train(fresh_module(), pixels, labels, options, normalise=normalise, rows=labelled)
    assert all(torch.equal(left_out.weights[name], chosen.weights[name]) for name in chosen.weights)


def test_a_class_without_rows_is_no_obstacle(stripes: tuple[Tensor, Tensor]) -> None:
    pixels, labels = stripes
    rows = torch.nonzero(labels != 2).flatten()
    result = train(fresh_module(), pixels, labels, TrainingOptions(epochs=1), normalise=normalise, rows=rows)
    assert math.isfinite(result.history[0].loss)


def test_training_stops_when_patience_is_out_and_keeps_the_best_epoch(stripes: tuple[Tensor, Tensor]) -> None:
    pixels, labels = stripes
    noise = torch.randint(0, 3, labels.shape, generator=torch.Generator().manual_seed(1))
    options = TrainingOptions(epochs=60, batch_size=16, held_out=0.3, patience=3)
    states: list[TrainingState] = []
    result = train(fresh_module(), pixels, noise, options, normalise=normalise, on_epoch=states.append)
    watched = [record.held_out_loss for record in result.history]
    best = watched.index(min(watched))
    assert len(watched) == best + 1 + options.patience < options.epochs
    assert all(torch.equal(result.weights[name], states[best].weights[name]) for name in result.weights)


def test_a_loss_that_is_no_number_is_said_in_a_sentence(stripes: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ModelError, match="epoch 1"):
        train(fresh_module(), *stripes, OPTIONS, normalise=lambda pixels: normalise(pixels) * math.nan)


def test_one_row_cannot_be_trained_on(stripes: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(DataError, match="at least 2 labelled rows, and there are 1"):
        train(fresh_module(), *stripes, TrainingOptions(), normalise=normalise, rows=torch.tensor([3]))


def test_augmentation_without_shift_or_flip_is_the_identity(stripes: tuple[Tensor, Tensor]) -> None:
    pixels, _ = stripes
    assert torch.equal(augmented(pixels, torch.Generator().manual_seed(0), shift=0, flip=False), pixels)


def test_augmentation_shifts_and_mirrors_each_image_as_a_whole(stripes: tuple[Tensor, Tensor]) -> None:
    pixels, _ = stripes
    padded = nn.functional.pad(pixels.float(), (2, 2, 2, 2), mode="reflect").to(torch.uint8)
    candidates = [padded[:, :, y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
    candidates += [shifted.flip(3) for shifted in candidates]
    result = augmented(pixels, torch.Generator().manual_seed(0), shift=2, flip=True)
    matches = torch.stack([(shifted == result).flatten(1).all(1) for shifted in candidates])  # (50, n)
    assert matches.any(0).all()
    assert matches.any(1).sum() > 20  # many different shifts, both mirrored and not


def test_digits_are_never_mirrored() -> None:
    assert not suitable_options(n_rows=1_000, channels=1, size=8).flip
    assert suitable_options(n_rows=1_000, channels=3, size=32).flip
