"""Tiny traced networks, their row gradients by the slow way, and dense Fishers, for the curvature tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forwardinf_core.influence.graph import GraphNetwork, whole_graph
from forwardinf_core.influence.network import TensorRows, losses
from forwardinf_core.influence.objective import Classification


def traced(module: nn.Module, x: Tensor, names: list[str] | None = None) -> GraphNetwork:
    """Return an eval-mode module of one input as a graph network; ``names``: the parameters that may move."""
    network = whole_graph(module.eval(), Classification(), {"x": x, "label": torch.zeros(len(x), dtype=torch.int64)})
    for name in set(network.parameters) - set(names or network.parameters):
        network.constants[network.parameter_placeholders.pop(name)] = network.parameters.pop(name)
    return network


def slow_row_gradients(network: GraphNetwork, rows: TensorRows) -> Tensor:
    """Return (n, p), one autograd call for each row, parameters by name."""
    names = sorted(network.parameters)
    found = []
    for position in range(len(rows)):
        leaves = {name: network.parameters[name].clone().requires_grad_() for name in names}
        loss = losses(network, leaves, rows.batch(position, position + 1)).sum()
        gradients = torch.autograd.grad(loss, [leaves[name] for name in names], materialize_grads=True)
        found.append(torch.cat([value.flatten() for value in gradients]))
    return torch.stack(found)


def random_rows_of(x: Tensor, n_classes: int, seed: int = 0) -> TensorRows:
    labels = torch.randint(n_classes, (len(x),), generator=torch.Generator().manual_seed(seed))
    return TensorRows({"x": x, "label": labels})


def dense_solve(gradients: Tensor, query: Tensor, damping: float) -> Tensor:
    """Return (F + λI)⁻¹ q by a dense inverse."""
    fisher = gradients.T @ gradients / len(gradients)
    return torch.linalg.solve(fisher + damping * fisher.trace() * torch.eye(len(fisher), dtype=fisher.dtype), query)


class TinyConvNet(nn.Module):
    """Strided, dilated and grouped convolutions, both padding styles, BatchNorm and GroupNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 4, (2, 3), padding="same", dilation=(1, 2), bias=False)
        self.gn = nn.GroupNorm(2, 4)
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.head = nn.Linear(4, 3)
        self.bn.running_mean.uniform_(-0.5, 0.5)
        self.bn.running_var.uniform_(0.5, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.gn(self.conv2(F.relu(self.bn(self.conv1(x)))))
        return self.head(F.relu(self.grouped(x)).mean((2, 3)))


class TinyTransformer(nn.Module):
    """Token and position embeddings, a class token, attention, LayerNorm, a scale, Conv1D's addmm and a tied head."""

    def __init__(self, padding: int | None) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 4, padding)
        self.positions = nn.Embedding(6, 4)
        self.class_token = nn.Parameter(torch.randn(1, 1, 4))
        self.scale = nn.Parameter(torch.rand(4) + 0.5)
        self.qkv = nn.Linear(4, 12)
        self.norm = nn.LayerNorm(4)
        self.projection = nn.Parameter(torch.randn(4, 4) / 2)
        self.offset = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        h = torch.cat([self.class_token.expand(x.shape[0], -1, -1), h], dim=1)
        q, k, v = self.qkv(self.norm(h)).chunk(3, dim=-1)
        h = h + self.scale * F.scaled_dot_product_attention(q, k, v)
        h = torch.addmm(self.offset, h.reshape(-1, 4), self.projection).reshape(h.shape)
        return F.linear(h, self.tokens.weight).logsumexp(1)


def conv_case(n_rows: int = 12) -> tuple[GraphNetwork, TensorRows]:
    torch.manual_seed(0)
    x = torch.randn(n_rows, 2, 7, 6, dtype=torch.float64)
    return traced(TinyConvNet().double(), x), random_rows_of(x, 3)


def transformer_case(n_rows: int = 12, padding: int | None = None) -> tuple[GraphNetwork, TensorRows]:
    torch.manual_seed(0)
    x = torch.randint(7, (n_rows, 5))
    return traced(TinyTransformer(padding).double(), x), random_rows_of(x, 7)
