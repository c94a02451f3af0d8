r"""Where a network's head and tail begin, read from its graph and from how its parameters are called.

The *head* is the linear layer whose output is the network's output. The *tail* is the last block and everything after
it: a block is one of a numbered family (``encoder.layer.11``, ``stages.3.layers.2``, ``block3``) most of which hold at
least two weight matrices, and as small as such a family allows. No architecture is known by name.
"""

from __future__ import annotations

import re
from collections import defaultdict

from torch import fx

from forwardinf_core.influence.graph import GraphNetwork, aten, placeholders
from forwardinf_core.influence.split import downstream, parameters_of

NO_HEAD = "This model has no linear layer whose output is the model's output, so there is no head to move."
NO_HEAD_HINT = "Use a method that moves the tail or the whole network."
NO_TAIL = "The last block of this model could not be found, so there is no tail to move."
NO_TAIL_HINT = "List its last modules as tail: in project.yaml, for example [layer4, fc]."

_NUMBERED = re.compile(r"(?P<family>.*?)(?P<number>\d+)")
_PASSES_VALUES_ON = (aten.clone.default, aten.alias.default, aten._to_copy.default, aten.dropout.default)
_MATRICES_OF_A_BLOCK = 2  # one convolution or projection alone is a layer, not a block


def find_head(network: GraphNetwork) -> str | None:
    """Return the module name of the linear layer whose output is the network's, or None.

    None also where its weight is used elsewhere too (tied to an embedding): moving it would move more than the head.
    """
    (result,) = network.graph_module.graph.output_node().args
    while isinstance(result, fx.Node) and result.target in _PASSES_VALUES_ON:
        result = result.args[0]
    assert isinstance(result, fx.Node)
    names = {placeholder: name for name, placeholder in network.parameter_placeholders.items()}
    if result.target is not aten.linear.default or len(result.users) != 1:
        return None
    read = [node for node in result.all_input_nodes[1:] if node.name in names]
    if len(read) != len(result.all_input_nodes) - 1 or any(len(node.users) > 1 for node in read):
        return None
    owners = {names[node.name].rpartition(".")[0] for node in read}
    head = owners.pop()
    is_whole = sorted(parameters_of(network, [head])) == sorted(names[node.name] for node in read) if head else False
    return head if is_whole and not owners else None


def find_tail(network: GraphNetwork) -> tuple[str, ...] | None:
    """Return the modules of the last block and of everything after it, in the order they run, or None."""
    order = _order_of_use(network)
    blocks = _blocks(network)
    if not blocks:
        return None
    last = max(blocks, key=lambda block: (max(order[name] for name in parameters_of(network, [block])), len(block)))
    graph = network.graph_module.graph
    inside = parameters_of(network, [last])
    starts = {network.parameter_placeholders[name] for name in inside}
    after = downstream(graph, [node for node in placeholders(network.graph_module) if node.name in starts])
    names = {placeholder: name for name, placeholder in network.parameter_placeholders.items()}
    reached = {node for late in after for node in late.all_input_nodes if node.name in names}
    # a parameter that is used before the block too (a tied embedding) would draw the whole network into the tail
    used = {names[node.name] for node in reached if after.issuperset(node.users)} - set(inside)
    modules = [name.rpartition(".")[0] or name for name in sorted(used, key=order.__getitem__)]
    return (last, *dict.fromkeys(modules))


def _blocks(network: GraphNetwork) -> list[str]:
    """Return the names of all blocks: members of a family in which most members hold two weight matrices or more."""
    matrices: dict[str, int] = defaultdict(int)
    families: dict[str, set[str]] = defaultdict(set)
    for name, value in network.parameters.items():
        parts = name.split(".")[:-1]
        for depth, part in enumerate(parts, 1):
            match = _NUMBERED.fullmatch(part)
            if match:
                member = ".".join(parts[:depth])
                families[".".join([*parts[: depth - 1], match["family"]])].add(member)
                matrices[member] += value.ndim >= 2
    blocks = []
    for family, members in families.items():
        whole = [member for member in members if matrices[member] >= _MATRICES_OF_A_BLOCK]
        is_listed = family.endswith(".") or not family  # ModuleList, Sequential: one member is a family too
        if 2 * len(whole) > len(members) and (is_listed or len(members) > 1):
            blocks += whole
    return blocks


def _order_of_use(network: GraphNetwork) -> dict[str, int]:
    """Return the position in the graph at which each parameter is last used."""
    positions = {node: position for position, node in enumerate(network.graph_module.graph.nodes)}
    nodes = {node.name: node for node in placeholders(network.graph_module)}
    return {
        name: max(positions[user] for user in nodes[placeholder].users)
        for name, placeholder in network.parameter_placeholders.items()
    }
