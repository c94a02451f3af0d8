"""Head and tail are found without knowing an architecture, and not where there is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forwardinf_core.influence.anatomy import find_head, find_tail
from forwardinf_core.influence.graph import whole_graph
from forwardinf_core.influence.objective import Classification
from forwardinf_core.influence.split import cut
from forwardinf_core.models.baseline import Baseline, BaselineConfig

Found = tuple[str | None, tuple[str, ...] | None]


def found(module: nn.Module, *, entry: str = "x", size: int = 16) -> Found:
    batch = {entry: torch.randn(2, 3, size, size), "label": torch.zeros(2, dtype=torch.int64)}
    network = whole_graph(module.eval(), Classification(), batch)
    return find_head(network), find_tail(network)


def transformers_model(name: str, **sizes: object) -> nn.Module:
    import transformers

    config = getattr(transformers, f"{name}Config")(num_labels=4, **sizes)
    model: nn.Module = getattr(transformers, f"{name}ForImageClassification")(config)
    return model


ATTENTION = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.mark.parametrize(
    ("name", "sizes", "size", "head", "tail"),
    [
        ("ViT", ATTENTION | {"image_size": 16, "patch_size": 8}, 16, "classifier", ("vit.layers.1", "vit.layernorm")),
        (
            "ResNet",
            {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 2], "layer_type": "basic"},
            32,
            "classifier.1",
            ("resnet.encoder.stages.1.layers.1",),
        ),
        (
            "ConvNext",
            {"hidden_sizes": [4, 8], "depths": [1, 2], "num_stages": 2},
            16,
            "classifier",
            ("convnext.encoder.stages.1.layers.1", "convnext.layernorm"),
        ),
    ],
)
def test_the_last_block_and_what_follows_it_are_the_tail_of_image_models(
    name: str, sizes: dict[str, object], size: int, head: str, tail: tuple[str, ...]
) -> None:
    assert found(transformers_model(name, **sizes), entry="pixel_values", size=size) == (head, (*tail, head))


def test_the_baseline_is_cut_where_it_says_also_after_export() -> None:
    module = Baseline(BaselineConfig(4, width=4)).eval()
    assert found(module) == (Baseline.HEAD, Baseline.TAIL)
    rows = torch.export.Dim("rows")
    program = torch.export.export(module, (torch.randn(2, 3, 16, 16),), dynamic_shapes=({0: rows},))
    batch = {"x": torch.randn(2, 3, 16, 16), "label": torch.zeros(2, dtype=torch.int64)}
    network = whole_graph(program, Classification(), batch)
    assert (find_head(network), find_tail(network)) == (Baseline.HEAD, Baseline.TAIL)


class Small(nn.Module):
    """A convolution and a linear layer; how the outputs are made of them is given."""

    def __init__(self, finish: Callable[[Small, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.linear = nn.Linear(4, 4)
        self.other = nn.Linear(4, 4)
        self.finish = finish

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self, F.relu(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("finish", "head"),
    [
        (lambda m, x: m.linear(x), "linear"),
        (lambda m, x: F.dropout(m.linear(x), 0.5, m.training), "linear"),
        (lambda m, x: F.relu(m.linear(x)), None),
        (lambda m, x: m.linear(x) + m.other(x), None),
        (lambda m, x: F.linear(x, m.linear.weight * 2, m.linear.bias), None),
        (lambda m, x: m.linear(F.relu(m.linear(x))), None),
        (lambda m, x: F.linear(x, m.linear.weight, m.other.bias), None),
    ],
)
def test_a_head_is_a_whole_linear_layer_at_the_end_used_once(
    finish: Callable[[Small, Tensor], Tensor], head: str | None
) -> None:
    assert found(Small(finish))[0] == head


def test_a_network_without_blocks_has_no_tail() -> None:
    assert found(Small(lambda m, x: m.linear(x)))[1] is None
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    assert found(plain) == ("4", None)


def test_layers_around_blocks_in_one_sequence_are_not_taken_for_blocks() -> None:
    def block() -> nn.Module:
        squeeze = nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1))
        return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), squeeze, nn.Conv2d(4, 4, 1))

    stem, last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 1)
    features = nn.Sequential(stem, block(), block(), block(), last)
    module = nn.Sequential()
    module.add_module("features", features)
    module.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    module.add_module("classifier", nn.Linear(6, 4))
    assert found(module) == ("classifier", ("features.3", "features.4", "classifier"))


class Tied(nn.Module):
    """A language model in small: its last layer shares its weight with the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 4)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)) for _ in range(2))
        self.norm = nn.LayerNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embedding(x)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return F.linear(self.norm(hidden.mean(1)), self.embedding.weight)


def test_a_weight_shared_with_the_embedding_is_neither_head_nor_tail() -> None:
    batch = {"x": torch.arange(12).view(3, 4) % 9, "label": torch.zeros(3, dtype=torch.int64)}
    network = whole_graph(Tied().eval(), Classification(), batch)
    assert find_head(network) is None
    assert find_tail(network) == ("blocks.1", "norm")
    tail = cut(network, ["blocks.1", "norm"]).tail
    assert [value.shape for value in tail.constants.values()] == [(9, 4)]
    assert "x" not in tail.inputs


def test_the_found_head_takes_features_of_one_vector_a_row() -> None:
    module = transformers_model("ViT", **ATTENTION, image_size=16, patch_size=8).eval()
    batch = {"pixel_values": torch.randn(2, 3, 16, 16), "label": torch.zeros(2, dtype=torch.int64)}
    network = whole_graph(module, Classification(), batch)
    head = find_head(network)
    assert head is not None
    parts = cut(network, [head])
    (name,) = parts.tail.inputs
    assert parts.trunk(batch)[name].shape == (2, 16)
