"""Rewrites of an exported graph that let every node be differentiated, forwards too, and vectorised over rows."""

from __future__ import annotations

import operator

import torch
from torch import Tensor, fx

aten = torch.ops.aten


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attend as aten.scaled_dot_product_attention does, whose fused kernels know no forward-mode derivative.

    They are used where nothing is differentiated, so that the same rows give the same bits in every forward pass.
    """
    options = {"scale": scale, "enable_gqa": enable_gqa}
    if not torch.is_grad_enabled() and not torch._C._are_functorch_transforms_active():
        fused: Tensor = aten.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, **options)
        return fused
    if attn_mask is not None and attn_mask.dtype == torch.bool:  # the plain form adds its mask
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(~attn_mask, float("-inf"))
    plain: tuple[Tensor, Tensor] = aten._scaled_dot_product_attention_math(
        query, key, value, attn_mask, dropout_p, is_causal, None, **options
    )
    return plain[0]


def tidy(graph: fx.Graph) -> None:
    """Let every node be differentiated and vectorised, and put batch_norm back together.

    Reshapes then do not depend on how a tensor lies in memory, and attention is not fused while differentiating.
    """
    for node in list(graph.nodes):
        if node.target is aten.scaled_dot_product_attention.default:
            node.target = attention
        if node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default
        elif node.target is aten._native_batch_norm_legit_no_training.default:
            values, weight, bias, mean, variance, momentum, eps = node.args
            with graph.inserting_before(node):
                arguments = (values, weight, bias, mean, variance, False, momentum, eps, False)
                whole = graph.call_function(aten.batch_norm.default, arguments)
            for user in [user for user in node.users if user.target is operator.getitem and user.args[1] == 0]:
                whole.meta = dict(user.meta)
                user.replace_all_uses_with(whole)
