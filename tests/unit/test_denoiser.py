"""The denoising objective and its draws against plain formulas, and training that survives an interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from forwardinf_core.errors import DataError, ModelError
from forwardinf_core.influence.curvature.ekfac import EigenvalueFit, FactorFit
from forwardinf_core.influence.curvature.fitting import fitted
from forwardinf_core.influence.diffusion import Denoising, DrawRows, Draws, Shared, by_sample, normalised_skew
from forwardinf_core.influence.graph import whole_graph
from forwardinf_core.influence.network import FullNetwork, RestrictedNetwork
from forwardinf_core.influence.scoring import score_batch
from forwardinf_core.influence.step import query_gradient, take_steps
from forwardinf_core.influence.update import StepOptions
from forwardinf_core.models.denoiser import PixelCodec, objective_of
from forwardinf_core.models.denoiser_baseline import (
    SCHEDULE,
    DenoiserConfig,
    load_denoiser,
    make_denoiser,
    save_denoiser,
    suitable_config,
)
from forwardinf_core.models.denoiser_training import DenoiserState, DenoiserTraining, train_denoiser

CONFIG = DenoiserConfig(n_classes=2, channels=1, size=8, width=8, levels=2)


def rows(n: int = 4, draws: Draws = Draws(3)) -> DrawRows:  # noqa: B008  # frozen
    samples = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    return DrawRows([f"row-{i}" for i in range(n)], samples, {"label": torch.arange(n) % 2}, draws, 1000)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_loss_is_the_squared_error_against_what_the_scheduler_trains_for(prediction: str) -> None:
    from diffusers import DDPMScheduler

    schedule = {**SCHEDULE, "prediction_type": prediction}
    objective, scheduler = objective_of(schedule, "here"), DDPMScheduler.from_config(schedule)
    batch = rows().batch(0, 12)
    noised = scheduler.add_noise(batch["x"], batch["noise"], batch["t"])
    torch.testing.assert_close(objective.noised(batch), noised)
    targets = {
        "epsilon": batch["noise"],
        "sample": batch["x"],
        "v_prediction": scheduler.get_velocity(batch["x"], batch["noise"], batch["t"]),
    }
    outputs = torch.randn_like(noised)
    expected = (outputs - targets[prediction]).square().mean((1, 2, 3))
    torch.testing.assert_close(objective.losses(outputs, batch), expected)


def told_in_several_ways(n: int = 6, count: int = 8) -> DrawRows:
    """Return draws of samples with one to three captions (whose entry is their number), mirrored half of the time."""
    plain = rows(n, Draws(count))
    which = torch.tensor([[0, 1, 2]] * n)
    said = Shared(torch.arange(3.0).reshape(3, 1), which, torch.tensor([1, 2, 3] * (n // 3)))
    return replace(plain, conditions={**plain.conditions, "text": said}, mirrored=plain.samples.flip(-1))


def test_which_caption_is_told_and_what_is_mirrored_belongs_to_the_draw_alone() -> None:
    everything = told_in_several_ways()
    whole = everything.batch(0, len(everything))
    for start, stop in ((0, 1), (5, 23), (17, 48)):
        part = everything.batch(start, stop)
        for name, value in part.items():
            assert torch.equal(value, whole[name][start:stop])
    told = by_sample(whole["text"], 8).flatten(1)
    assert [sorted(set(each.tolist())) for each in told[:3]] == [[0.0], [0.0, 1.0], [0.0, 1.0, 2.0]]
    plain = rows(6, Draws(8)).batch(0, 48)
    mirrored = (whole["x"] != plain["x"]).flatten(1).any(1)
    assert torch.equal(whole["x"][mirrored], plain["x"][mirrored].flip(-1))
    assert 12 < int(mirrored.sum()) < 36
    assert torch.equal(whole["noise"], plain["noise"])  # choices have a seed of their own
    assert torch.equal(whole["t"], plain["t"])
    other = replace(everything, draws=Draws(8, seed=1)).batch(0, 48)
    assert not torch.equal(other["text"], whole["text"])


def test_a_sample_with_one_caption_is_drawn_as_without_a_choice() -> None:
    plain = rows()
    said = Shared.by_all(torch.ones(1, 2), 4)
    batch = replace(plain, conditions={**plain.conditions, "text": said}).batch(2, 9)
    assert torch.equal(batch["x"], plain.batch(2, 9)["x"])
    assert torch.equal(batch["text"], torch.ones(7, 2))


def test_loss_changes_equal_the_difference_of_losses_in_float64() -> None:
    objective = objective_of(SCHEDULE, "here")
    batch = {k: v.double() if v.is_floating_point() else v for k, v in rows().batch(0, 12).items()}
    outputs, change = torch.randn(2, 12, 1, 8, 8, dtype=torch.float64)
    difference = objective.losses(outputs + change, batch) - objective.losses(outputs, batch)
    torch.testing.assert_close(objective.loss_changes(outputs, change, batch), difference)


def test_draws_depend_on_id_number_and_seed_alone() -> None:
    draws = Draws(5, seed=3)
    timesteps, noise = draws.of("cat-17", (1, 8, 8), 1000)
    again = draws.of("cat-17", (1, 8, 8), 1000)
    assert torch.equal(timesteps, again[0])
    assert torch.equal(noise, again[1])
    assert not torch.equal(noise, draws.of("cat-18", (1, 8, 8), 1000)[1])
    assert not torch.equal(noise, Draws(5, seed=4).of("cat-17", (1, 8, 8), 1000)[1])


def test_every_part_of_the_schedule_is_visited_once() -> None:
    timesteps, _ = Draws(10).of("any", (1, 2, 2), 1000)
    assert (timesteps // 100).tolist() == list(range(10))


def test_a_batch_of_draws_does_not_depend_on_where_it_begins() -> None:
    everything = rows().batch(0, 12)
    for start, stop in ((0, 1), (2, 7), (5, 6), (4, 12)):
        part = rows().batch(start, stop)
        assert all(torch.equal(part[name], everything[name][start:stop]) for name in everything)


def test_the_unchanged_denoiser_scores_exactly_zero_and_a_training_image_is_its_own_best_helper() -> None:
    torch.manual_seed(0)
    module = make_denoiser(CONFIG).eval()
    network = FullNetwork(module, objective_of(SCHEDULE, "here"))
    table = rows(6, Draws(4))
    still = take_steps(network, [table.batch(0, 4)], StepOptions(learning_rate=0.0, rise=None))[0]
    assert score_batch(network, table.batch(0, 24), [still], None).abs().max() == 0
    (update,) = take_steps(network, [table.batch(8, 12)], StepOptions(rise=1e-3))
    scores = by_sample(score_batch(network, table.batch(0, 24), [update], None)[:, 0], 4).mean(1)
    assert int(scores.argmax()) == 2


def test_the_denoiser_can_be_exported_and_gets_ekfac() -> None:
    torch.manual_seed(0)
    module = make_denoiser(CONFIG).eval()
    objective, table = objective_of(SCHEDULE, "here"), rows(6, Draws(4))
    graph = whole_graph(module, objective, table.batch(0, 3))
    batch = table.batch(0, 24)
    torch.testing.assert_close(graph.outputs({}, batch), objective.outputs(module, batch), rtol=1e-4, atol=1e-5)
    bases = fitted(FactorFit(graph), table, 8)
    ekfac = fitted(EigenvalueFit(graph, bases), table, 8)
    (update,) = take_steps(
        graph, [table.batch(8, 12)], StepOptions("curvature", rise=1e-3, damping=1e-2), curvature=ekfac
    )
    scores = by_sample(score_batch(graph, batch, [update], None)[:, 0], 4).mean(1)
    assert int(scores.argmax()) == 2


@pytest.mark.parametrize("pattern", ["mid_block.resnets.0.norm1.weight", "up_blocks.*"])
def test_a_name_filter_gives_the_gradient_of_the_whole_network_and_group_norm_survives(pattern: str) -> None:
    torch.manual_seed(0)
    network = FullNetwork(make_denoiser(CONFIG).eval(), objective_of(SCHEDULE, "here"))
    query = rows().batch(0, 3)
    whole = query_gradient(network, query)[1]
    some = query_gradient(RestrictedNetwork(network, [pattern]), query)[1]
    assert 0 < len(some) < len(whole)
    for name, value in some.items():
        torch.testing.assert_close(value, whole[name], rtol=1e-4, atol=1e-6)


def test_skew_is_the_relative_change_of_the_loss() -> None:
    before, change = torch.tensor([0.5, 0.0]), torch.tensor([0.1, 0.0])
    torch.testing.assert_close(normalised_skew(before, change), torch.tensor([0.1 / 1.101, 0.0]))


def test_training_that_was_interrupted_ends_in_the_same_bytes() -> None:
    samples, labels = rows(8).samples, torch.arange(8) % 2
    options = DenoiserTraining(epochs=3, batch_size=4)

    def run(resume: DenoiserState | None, states: list[DenoiserState]) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        module = make_denoiser(CONFIG)
        objective = objective_of(SCHEDULE, "here")
        train_denoiser(module, samples, labels, objective, options, null_label=2, resume=resume, on_epoch=states.append)
        return module.state_dict()

    states: list[DenoiserState] = []
    whole = run(None, states)
    resumed = run(DenoiserState.from_tensors(states[0].tensors()), [])
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_saved_denoiser_comes_back_and_generates_the_same_image_for_the_same_seed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = make_denoiser(CONFIG).eval()
    save_denoiser(tmp_path, module, CONFIG, ("zero", "one"))
    model = load_denoiser(tmp_path, "model")
    first, again, other = (
        np.asarray(model.generate(model.label_of("one"), count=1, seed=seed, steps=3, guidance=2.0)[0])
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"steps": 0}, "0 steps"), ({"steps": 2000}, "2000 steps")],
)
def test_generation_that_makes_no_sense_is_refused(tmp_path: Path, asked: dict[str, int], said: str) -> None:
    save_denoiser(tmp_path, make_denoiser(CONFIG), CONFIG, ("zero", "one"))
    model = load_denoiser(tmp_path, "model")
    with pytest.raises(DataError, match=said):
        model.generate(0, count=1, seed=0, **asked)
    with pytest.raises(DataError, match="no class ‘two’"):
        model.label_of("two")


def test_an_unknown_scheduler_is_refused_with_a_sentence() -> None:
    with pytest.raises(ModelError, match="no known noise levels"):
        objective_of({"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000}, "model")
    with pytest.raises(ModelError, match="prediction type flow"):
        objective_of({**SCHEDULE, "prediction_type": "flow"}, "model")


def test_images_of_any_mode_and_size_become_what_the_model_takes() -> None:
    codec = PixelCodec(1, 8)
    for image in (Image.new("RGBA", (30, 20)), Image.new("L", (8, 8), 255), Image.new("1", (1, 1))):
        encoded = codec.encode([image])
        assert encoded.shape == (1, 1, 8, 8)
        assert encoded.abs().max() <= 1
    picture = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    assert np.array_equal(np.asarray(codec.decode(codec.encode([picture]))[0]), np.asarray(picture))


def test_the_shape_suits_the_images() -> None:
    assert [suitable_config(0, 1, size).levels for size in (8, 16, 28, 32)] == [2, 3, 3, 4]
    assert objective_of(SCHEDULE, "here").task == Denoising.task == "diffusion"
