r"""Products of the Fisher with directions, Σ_i (g_i·v) g_i over a batch, that store no row gradients.

In general, forward-mode differentiation gives g_i·v of all rows in one pass, and one backward pass of the losses
weighted by it gives the sum. In a graph network whose parameters have known roles both are local to the nodes that
read them: with the output gradients b of one backward pass, g_i·v = Σ_nodes b_i · node(inputs_i; v) is linear in v, and
each further direction costs those nodes alone, once forwards and once backwards.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from forwardinf_core.influence.curvature.gradients import known_layers
from forwardinf_core.influence.curvature.layers import applied, nodes_of
from forwardinf_core.influence.curvature.taps import Recording, Use, check_rows_are_separate, record, uses_of
from forwardinf_core.influence.graph import GraphNetwork
from forwardinf_core.influence.network import Network, Parameters, losses
from forwardinf_core.influence.objective import Batch


def summed_products(network: Network, batch: Batch, changes: list[Parameters]) -> list[Parameters]:
    """Return Σ_i (g_i·v) g_i over the rows of a batch for each change v of all parameters."""
    layers = known_layers(network)
    if layers is None or not isinstance(network, GraphNetwork):
        return weighted_gradients(network, batch, gradient_products(network, batch, changes))
    nodes = nodes_of(layers)
    check_rows_are_separate(network, batch, nodes)
    recording = record(network, batch, nodes)
    uses = uses_of(network)
    return [_recorded_product(recording, uses, change) for change in changes]


def gradient_products(network: Network, batch: Batch, changes: list[Parameters]) -> Tensor:
    """Return g_i·v of every row for each change v of the parameters, (changes, n), by forward-mode differentiation.

    An embedding's padding row, which training masks, must not change.
    """

    def loss(parameters: Parameters) -> Tensor:
        return losses(network, parameters, batch)

    trained = network.parameters
    tangents = [{name: change[name] for name in trained} for change in changes]  # jvp wants the same order
    with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels have no forward mode
        return torch.stack([jvp(loss, (trained,), (tangent,))[1] for tangent in tangents])


def weighted_gradients(network: Network, batch: Batch, weights: Tensor) -> list[Parameters]:
    """Return Σ_i w_i g_i for each row of ``weights`` (sums, n): one forward pass, one backward pass for each."""
    leaves = {name: value.detach().requires_grad_() for name, value in network.parameters.items()}
    with torch.enable_grad():
        found = losses(network, leaves, batch)
    sums = [
        torch.autograd.grad(found, list(leaves.values()), one, retain_graph=True, materialize_grads=True)
        for one in weights
    ]
    return [dict(zip(leaves, one, strict=True)) for one in sums]


def _recorded_product(recording: Recording, uses: dict[str, list[Use]], change: Parameters) -> Parameters:
    leaves = {name: value.detach().requires_grad_() for name, value in change.items()}
    read = [(name, use) for name, found in uses.items() for use in found]
    gradients = [recording.nodes[use.node].gradient for _, use in read]
    with torch.enable_grad():
        outputs = [applied(use, leaves[name], recording) for name, use in read]
    n_rows = recording.n_rows
    pairs = list(zip(outputs, gradients, strict=True))
    weights = torch.stack([(o.detach() * b).reshape(n_rows, -1).sum(1) for o, b in pairs]).sum(0)  # g_i·v, (n,)
    weighted = [(b.reshape(n_rows, -1) * weights.unsqueeze(1)).reshape(b.shape) for b in gradients]
    sums = torch.autograd.grad(outputs, list(leaves.values()), weighted, materialize_grads=True)
    return dict(zip(leaves, sums, strict=True))
