# SPDX-License-Identifier: Apache-2.0
"""Scores block by block: value and gradient of a block while it is in the cache.

A score of a voxel depends on the outputs of that voxel only, so the gradient is known as soon as the value
is. The peak memory is that of one gradient, whatever a score needs for its intermediate steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from monai_multirater.ordinal.encoding import full_precision

__all__ = ["TINY", "BlockScore", "blockwise", "log_of_product", "score_by_autograd"]

BlockScore = Callable[[Tensor, Tensor, "Tensor | None", float], Tensor]
"""``score(outputs [b, C, n], votes [b, 1, n], gradient, scale) -> values [b, 1, n]``; votes have the dtype of
the outputs, and ``scale`` times the gradient of the values is written to ``gradient [b, C, n]`` unless that is None."""

TINY = 1e-30
"""A probability below this counts as underflow, and its block is computed another way."""

_LOG_RANGE, _LOG_RANGE_DOUBLE = 70.0, 690.0  # products above exp(-range) are normal numbers
_CPU_BLOCK = 1 << 19  # probabilities: small enough for the caches, large enough for the cost of calls not to matter
_CUDA_BLOCK = 1 << 26  # launches cost more than memory traffic there


def score_by_autograd(score: Callable[[Tensor, Tensor], Tensor]) -> BlockScore:
    """Block score from a differentiable ``score(outputs, votes) -> values``."""

    def block_score(outputs: Tensor, votes: Tensor, gradient: Tensor | None, scale: float) -> Tensor:
        if gradient is None:
            return score(outputs, votes)
        with torch.enable_grad():
            leaf = outputs.detach().requires_grad_()
            values = score(leaf, votes)
            (slope,) = torch.autograd.grad(values.sum(), leaf)
        torch.mul(slope, scale, out=gradient)
        return values.detach()

    return block_score


def log_of_product(q: Tensor, smallest: float) -> Tensor:
    """``sum log q`` along axis 1 of ``[b, C, n]`` by one logarithm, in float64 where the product would underflow.

    Args:
        q: positive numbers.
        smallest: the smallest of them, at least 1e-290.

    Returns:
        ``[b, 1, n]``, a new tensor.
    """
    magnitude = -log(smallest) if smallest < 1 else 0.0
    if q.shape[1] * magnitude < _LOG_RANGE:
        return q.prod(1, keepdim=True).log_()
    total = torch.zeros_like(q[:, :1], dtype=torch.float64)
    for part in torch.split(q, int(_LOG_RANGE_DOUBLE / magnitude), dim=1):
        total += part.prod(1, keepdim=True, dtype=torch.float64).log_()
    return total.to(q.dtype)


def blockwise(
    outputs: Tensor,
    votes: Tensor,
    scores: Sequence[BlockScore],
    *,
    levels: int,
    reduction: str = "mean",
) -> Tensor:
    """Values of one score per item of a batch, reduced.

    Args:
        outputs: ``[B, C, *spatial]``; computed in float32, or float64 for float64, also under autocast.
        votes: ``[B, 1, *spatial]`` integers.
        scores: B scores; items that share the same object may share a block.
        levels: channels of the largest intermediate result, for the size of blocks.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        a scalar, or ``[B, 1, *spatial]`` for ``"none"``. Differentiable once.
    """
    scale = {"none": None, "sum": 1.0, "mean": 1 / votes.numel()}[reduction]
    with full_precision(outputs.device):
        return _Blockwise.apply(outputs, votes, scores, levels, scale)


def _flat(tensor: Tensor) -> Tensor:
    """``[B, C, voxels]``, a view where the memory format allows it."""
    shape = (*tensor.shape[:2], tensor.shape[2:].numel())
    try:
        return tensor.view(shape)
    except RuntimeError:
        return tensor.contiguous().view(shape)


class _Blockwise(torch.autograd.Function):
    """Values per voxel, or their sum times ``scale``; the gradient is ready after the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        outputs: Tensor,
        votes: Tensor,
        scores: Sequence[BlockScore],
        levels: int,
        scale: float | None,
    ) -> Tensor:
        flat, flat_votes = _flat(outputs), _flat(votes)
        dtype = torch.promote_types(outputs.dtype, torch.float32)
        values = torch.empty(flat_votes.shape, dtype=dtype, device=outputs.device)
        gradient = values.new_empty(flat.shape) if ctx.needs_input_grad[0] else None
        block = (_CPU_BLOCK if outputs.device.type == "cpu" else _CUDA_BLOCK) // levels
        alike = all(score is scores[0] for score in scores)
        step = min(len(scores), max(1, block // max(1, flat.shape[2]))) if alike else 1
        width = max(1, block // step)
        for item in range(0, len(scores), step):
            for start in range(0, flat.shape[2], width):
                where = slice(item, item + step), slice(None), slice(start, start + width)
                x, labels = (part[where].to(values.dtype) for part in (flat, flat_votes))
                slope = None if gradient is None else gradient[where]
                values[where] = scores[item](x, labels, slope, scale or 1.0)
        if gradient is not None:
            ctx.save_for_backward(gradient.view(outputs.shape))
        return values.view(votes.shape) if scale is None else values.sum() * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        if grad_output.ndim or grad_output.device.type != "cpu" or float(grad_output) != 1:
            gradient = gradient * grad_output
        return gradient, None, None, None, None
