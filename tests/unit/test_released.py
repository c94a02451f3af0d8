"""The released Forward-INF recipe, against a straightforward twin that follows the authors' notebook."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from tiny_problems import classifier, digest, row
from torch import Tensor, nn

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.network import FullNetwork
from forwardinf_core.influence.objective import Batch, Classification
from forwardinf_core.influence.released import released_update
from forwardinf_core.influence.scoring import score_batch
from forwardinf_core.influence.update import ReleasedOptions, moved_parameters


def notebook(module: nn.Module, x: Tensor, label: Tensor) -> tuple[nn.Module, float]:
    """The notebook's step on one query, written down again with torch's own Adam."""
    model_copy = copy.deepcopy(module).train()
    optimiser = torch.optim.Adam(model_copy.parameters(), lr=5e-3)
    data, target = torch.cat([x, x]), torch.cat([label, label])
    optimiser.zero_grad()
    loss = -nn.functional.cross_entropy(model_copy(data), target)
    loss.backward()
    optimiser.step()
    return model_copy.eval(), -loss.item()


def notebook_scores(module: nn.Module, moved: nn.Module, rows: Batch) -> Tensor:
    with torch.no_grad():
        after = nn.functional.cross_entropy(moved(rows["x"]), rows["label"], reduction="none")
        before = nn.functional.cross_entropy(module(rows["x"]), rows["label"], reduction="none")
    return (after - before).abs()


def image_network() -> tuple[FullNetwork, Batch]:
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
        )
    rows = {
        "x": torch.randn(12, 1, 6, 6, generator=generator),
        "label": torch.randint(0, 3, (12,), generator=generator),
    }
    with torch.no_grad():
        module.train()(rows["x"])
    return FullNetwork(module.eval(), Classification()), rows


def fitted_query(network: FullNetwork, rows: Batch) -> Batch:
    """A query of almost no loss: its label is the model's prediction, in training mode, made very confident."""
    head = network.module[-1]  # type: ignore[index]
    with torch.no_grad():
        head.weight.mul_(40.0)
        query = row(rows, 0)
        doubled = torch.cat([query["x"], query["x"]])
        query["label"] = copy.deepcopy(network.module).train()(doubled).argmax(1)[:1]
    return query


def test_it_equals_the_notebook_in_weights_buffers_and_scores() -> None:
    network, rows = image_network()
    query = row(rows, 4)
    update = released_update(network, query)
    twin, loss = notebook(network.module, query["x"], query["label"])
    assert loss > 0.02
    assert update.redraws == 0
    state = twin.state_dict()
    for name, value in moved_parameters(network, update).items():
        # one rounding of θ + δ
        torch.testing.assert_close(value, state[name], rtol=1e-6, atol=1e-8)
    assert set(update.buffers) == {"1.running_mean", "1.running_var"}
    expected = notebook_scores(network.module, twin, rows)
    for form in ("precise", "difference"):
        found = score_batch(network, rows, [update], None, form=form)[:, 0]  # type: ignore[arg-type]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-6)
    assert (expected > 1e-3).any()


def test_losses_before_and_after_are_those_of_the_query_in_eval_mode() -> None:
    network, rows = image_network()
    query = row(rows, 4)
    update = released_update(network, query)
    twin, _ = notebook(network.module, query["x"], query["label"])
    criterion = nn.functional.cross_entropy
    with torch.no_grad():
        assert update.loss_before == pytest.approx(criterion(network.module(query["x"]), query["label"]).item())
        assert update.loss_after == pytest.approx(criterion(twin(query["x"]), query["label"]).item(), rel=1e-5)
    assert update.direction == "absolute"
    assert update.step_length == 5e-3


def test_training_mode_alone_makes_scores_differ_from_zero() -> None:
    network, rows = image_network()
    update = released_update(network, row(rows, 0), ReleasedOptions(learning_rate=0.0))
    assert (score_batch(network, rows, [update], None) > 0).all()


def test_the_users_module_keeps_every_byte_and_its_mode() -> None:
    network, rows = image_network()
    before = digest(network.module)
    released_update(network, row(rows, 0))
    assert digest(network.module) == before
    with pytest.raises(RuntimeError):
        released_update(network, {"x": torch.zeros(1, 1, 5, 5), "label": torch.tensor([0])})
    assert digest(network.module) == before


def test_training_mode_is_never_seen_by_another_thread() -> None:
    network, rows = image_network()
    seen: list[bool] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.append(any(part.training for part in network.module.modules()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for i in range(10):
        released_update(network, row(rows, i))
    stop.set()
    watcher.join()
    assert seen
    assert not any(seen)


def test_a_fitted_query_is_drawn_anew_on_the_sphere_and_repeatably() -> None:
    network, rows = image_network()
    query = fitted_query(network, rows)
    network = FullNetwork(network.module, network.objective)
    update = released_update(network, query, ReleasedOptions(seed=3))
    assert update.redraws > 0
    again = released_update(network, query, ReleasedOptions(seed=3))
    assert again.redraws == update.redraws
    for name, change in update.changes.items():
        assert torch.equal(change, again.changes[name])

    # the same draws, made here: a point at distance 3 · 1.1^k until the mean training-mode loss is 2e-2 or more
    generator = torch.Generator().manual_seed(3)
    radius = 3.0
    for redraw in range(1, update.redraws + 1):
        noise = torch.randn(query["x"].shape, generator=generator)
        x = query["x"] + noise * (radius / noise.norm())
        twin, loss = notebook(network.module, x, query["label"])
        assert (loss >= 2e-2) == (redraw == update.redraws)
        radius *= 1.1
    state = twin.state_dict()
    for name, value in moved_parameters(network, update).items():
        torch.testing.assert_close(value, state[name], rtol=1e-5, atol=1e-6)


def test_re_drawing_ends_with_a_sentence() -> None:
    network, rows = image_network()
    query = fitted_query(network, rows)
    network = FullNetwork(network.module, network.objective)
    with torch.no_grad():
        network.module[-1].bias[int(query["label"])] += 1e6  # type: ignore[index]
    with pytest.raises(ModelError, match="in 5 re-draws"):
        released_update(network, query, ReleasedOptions(max_redraws=5))


def test_an_input_that_is_no_image_cannot_be_drawn_anew() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 3)

        def forward(self, input_ids: Tensor) -> Tensor:
            return self.table(input_ids).mean(1)

    module = Words().eval()
    with torch.no_grad():
        module.table.weight.copy_(50.0 * torch.eye(5, 3))
    network = FullNetwork(module, Classification("text-classification"))
    query = {"input_ids": torch.tensor([[1, 1]]), "label": torch.tensor([1])}
    with pytest.raises(ModelError, match="cannot draw this kind of input anew") as caught:
        released_update(network, query)
    assert "input_ids" in caught.value.hint


def test_dropout_is_seeded_and_the_global_generator_left_as_it_was() -> None:
    network, rows = classifier()
    network = FullNetwork(nn.Sequential(network.module, nn.Dropout(0.5)).eval(), network.objective)
    state = torch.get_rng_state()
    first = released_update(network, row(rows, 0))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    second = released_update(network, row(rows, 0))
    assert all(torch.equal(change, second.changes[name]) for name, change in first.changes.items())
