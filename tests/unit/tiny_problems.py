"""Small problems with known answers, for the tests of the method."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from forwardinf_core.influence.network import FullNetwork, Parameters, losses
from forwardinf_core.influence.objective import Batch, Classification


class Squares:
    """Half the squared error, an objective without classes: loss ½(z − y)², gradient (z − y)·x."""

    task = "regression"

    def outputs(self, call: Callable[..., object], batch: Batch) -> Tensor:
        outputs = call(batch["x"])
        assert isinstance(outputs, Tensor)
        return outputs.squeeze(1)

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return 0.5 * (outputs - batch["y"]) ** 2

    def unsaturated_losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return (outputs - batch["y"]).abs()

    def loss_changes(self, outputs: Tensor, change: Tensor, batch: Batch) -> Tensor:
        return change * (outputs - batch["y"] + 0.5 * change)

    def output_gradients(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs - batch["y"]


class DenseFisher:
    """(F + λI)⁻¹ g with the whole empirical Fisher as a matrix: the slow, obvious reference."""

    kind = "dense"

    def __init__(self, network: FullNetwork, rows: Batch) -> None:
        self.gradients = row_gradients(network, rows)  # (n, p)
        self.parameters = network.parameters

    def solve(self, gradients: list[Parameters], *, damping: float) -> list[Parameters]:
        n, p = self.gradients.shape
        fisher = self.gradients.T @ self.gradients / n
        matrix = fisher + damping * fisher.trace() * torch.eye(p, dtype=fisher.dtype)
        solved = torch.linalg.solve(matrix, torch.stack([flat(g) for g in gradients], 1))
        return [unflat(column, self.parameters) for column in solved.unbind(1)]

    def tensors(self) -> Parameters:
        return {"gradients": self.gradients}


def flat(parameters: Parameters) -> Tensor:
    return torch.cat([value.flatten() for value in parameters.values()])


def unflat(vector: Tensor, like: Parameters) -> Parameters:
    parts = vector.split([value.numel() for value in like.values()])
    return {name: part.reshape(like[name].shape) for (name, _), part in zip(like.items(), parts, strict=True)}


def row_gradients(network: FullNetwork, rows: Batch) -> Tensor:
    """Gradients of every row's loss, one row at a time, (n, p)."""
    found = []
    for i in range(len(rows["x"])):
        at = {name: value.clone().requires_grad_() for name, value in network.parameters.items()}
        loss = losses(network, at, {name: value[i : i + 1] for name, value in rows.items()}).sum()
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(at.values()))]))
    return torch.stack(found)


def regression(n: int = 20, dtype: torch.dtype = torch.float64) -> tuple[FullNetwork, Batch]:
    generator = torch.Generator().manual_seed(0)
    module = nn.Linear(4, 1, bias=False).to(dtype).eval()
    with torch.no_grad():
        module.weight.copy_(torch.randn(1, 4, generator=generator))
    rows = {
        "x": torch.randn(n, 4, generator=generator).to(dtype),
        "y": torch.randn(n, generator=generator).to(dtype),
    }
    return FullNetwork(module, Squares()), rows


def classifier(dtype: torch.dtype = torch.float32, n: int = 60, seed: int = 0) -> tuple[FullNetwork, Batch]:
    """A random two-layer network with BatchNorm on random rows, in eval mode with used running statistics."""
    generator = torch.Generator().manual_seed(seed)
    module = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)).to(dtype)
    rows = {
        "x": torch.randn(n, 6, generator=generator).to(dtype),
        "label": torch.randint(0, 4, (n,), generator=generator),
    }
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
        module.train()(rows["x"])  # fills the running statistics
    return FullNetwork(module.eval(), Classification()), rows


def row(rows: Batch, position: int) -> Batch:
    return {name: value[position : position + 1].clone() for name, value in rows.items()}


def digest(module: nn.Module) -> str:
    """SHA-256 over every byte of parameters and buffers, the training flags and whether gradients are there."""
    found = hashlib.sha256()
    for name, value in module.state_dict().items():
        found.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    found.update(str([part.training for part in module.modules()]).encode())
    found.update(str([(p.requires_grad, p.grad is None) for p in module.parameters()]).encode())
    return found.hexdigest()


def trained_on_digits(n: int = 300, epochs: int = 60) -> tuple[nn.Module, Batch]:
    """A small network fitted to the first n digits of scikit-learn, in under two seconds."""
    data = load_digits()
    rows = {
        "x": torch.tensor(data.data[:n] / 16.0, dtype=torch.float32),
        "label": torch.tensor(data.target[:n], dtype=torch.int64),
    }
    return fit(rows, epochs), rows


def fit(rows: Batch, epochs: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimiser = torch.optim.SGD(module.parameters(), lr=0.5, momentum=0.9, weight_decay=1e-3)
    for _ in range(epochs):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(rows["x"]), rows["label"]).backward()
        optimiser.step()
    for parameter in module.parameters():
        parameter.grad = None
    return module.eval()
