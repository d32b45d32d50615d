# SPDX-License-Identifier: Apache-2.0
"""Every method under one name and with one kind of result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monai_multirater.fusion.dawid_skene import dawid_skene
from monai_multirater.fusion.patterns import Floats, PatternVolume, Stack, open_stack, performance, share
from monai_multirater.fusion.results import FusionResult
from monai_multirater.fusion.simple import select_raters
from monai_multirater.fusion.smoothing import soft_gaussian, svls
from monai_multirater.fusion.staple import staple
from monai_multirater.fusion.voting import TIES, draw_raters, majority, weight_shares, weighted_shares
from monai_multirater.votes.counting import block_size

__all__ = ["FUSIONS", "FusionMethod", "fuse", "fusion_method"]


@dataclass(frozen=True)
class FusionMethod:
    """A way to fuse ratings.

    Attributes:
        name: its key in ``FUSIONS``.
        summary: one line for people.
        run: ``run(call) -> FusionResult``.
        options: names that :func:`fuse` accepts.
        random: needs a generator.
        spatial: a voxel's result depends on its neighbors.
    """

    name: str
    summary: str
    run: Callable[[_Call], FusionResult]
    options: tuple[str, ...] = ()
    random: bool = False
    spatial: bool = False

    def check_options(self, names: Iterable[str]) -> None:
        """Raise ``ValueError`` for options that the method does not have, naming those that it has."""
        unknown = sorted(set(names) - set(self.options))
        if unknown:
            known = ", ".join(self.options) or "no options"
            raise ValueError(f"fuse: {self.name} does not have the option {', '.join(unknown)}. It has {known}.")


@dataclass(frozen=True)
class _Call:
    """Arguments of one call of :func:`fuse`."""

    name: str
    ratings: Tensor
    rater_mask: Tensor | None
    stack: Stack
    spacing: Sequence[float] | None
    generator: torch.Generator | None
    options: dict[str, Any]

    def result(
        self, probability: Tensor, sensitivity: Tensor, specificity: Tensor, weights: Floats, **others: Any
    ) -> FusionResult:
        items = len(self.stack.present)
        still = {
            "dropped": self.stack.per_case(np.zeros_like(self.stack.present)),
            "iterations": torch.zeros(items, dtype=torch.int64) if self.stack.batched else 0,
            "converged": torch.ones(items, dtype=torch.bool) if self.stack.batched else True,
        }
        shares = self.stack.per_case(weights)
        return FusionResult(self.name, probability, sensitivity, specificity, shares, **{**still, **others})

    def by_pattern(self, volume: PatternVolume, values: Floats, weights: Floats, **others: Any) -> FusionResult:
        """Result of a method that gives each pattern a value ``[B, P]``."""
        sensitivity, specificity = map(self.stack.per_case, performance(volume, values))
        return self.result(volume.fill(values), sensitivity, specificity, weights, **others)

    def by_voxel(self, probability: Tensor, weights: Floats) -> FusionResult:
        """Result of a method that gives each voxel a value."""
        sensitivity, specificity = map(self.stack.per_case, _against(probability, self.stack))
        return self.result(probability, sensitivity, specificity, weights)

    @property
    def equal(self) -> Floats:
        return np.asarray(self.stack.present / self.stack.present.sum(1, keepdims=True))


def fuse(
    ratings: Tensor,
    method: str,
    rater_mask: Tensor | None = None,
    *,
    spacing: Sequence[float] | None = None,
    generator: torch.Generator | None = None,
    batched: bool | None = None,
    **options: Any,
) -> FusionResult:
    """Fuse the ratings of one case or a batch by a method's name.

    Args:
        ratings: ``[R, *spatial]`` or ``[B, R, *spatial]``, zeros and ones, bool or integer, 2D or 3D, on any device.
        method: key of :data:`FUSIONS`; hyphens count as underscores.
        rater_mask: ``[R]`` or ``[B, R]`` bool, True = present; the planes of absent raters are ignored.
        spacing: voxel size in mm per spatial axis, for ``soft_gaussian`` with ``unit="mm"``.
        generator: source of random numbers on the CPU, for ``random`` and ``majority`` with ``ties="random"``.
        batched: whether the first axis is the batch; by default a two-dimensional ``rater_mask`` says so.
        options: of the method, see its function: ``sigma``, ``kernel_size``, ``ties``, ``confidence_weight``, ...

    Returns:
        a :class:`FusionResult`. Empty masks give an empty consensus.

    Raises:
        ValueError: an unknown method or option (the known ones are named), a missing generator, or what the method's
            own function raises.
    """
    found = fusion_method(method)
    found.check_options(options)
    if found.random and generator is None:
        raise ValueError(f"fuse: {found.name} draws at random and needs a generator. Got None.")
    stack = open_stack(ratings, rater_mask, batched)
    return found.run(_Call(found.name, ratings, rater_mask, stack, spacing, generator, options))


def fusion_method(name: str) -> FusionMethod:
    """Return a method by name; hyphens count as underscores.

    Raises:
        ValueError: naming the known ones.
    """
    key = str(name).replace("-", "_")
    if key not in FUSIONS:
        raise ValueError(f"fuse: method must be one of {', '.join(FUSIONS)}. Got {name!r}.")
    return FUSIONS[key]


def _by_votes(rule: Callable[[Floats, Floats], npt.NDArray[Any]]) -> Callable[[_Call], FusionResult]:
    """Method whose answer depends on votes ``[1, P]`` and raters present ``[B, 1]`` only."""

    def run(call: _Call) -> FusionResult:
        volume = PatternVolume.count(call.stack)
        present = call.stack.present.sum(1, keepdims=True).astype(np.float64)
        return call.by_pattern(volume, np.asarray(rule(volume.votes[None], present), np.float64), call.equal)

    return run


def _majority(call: _Call) -> FusionResult:
    ties = call.options.get("ties", "background")
    if ties in TIES[:2]:
        compare = np.greater_equal if ties == "foreground" else np.greater
        return _by_votes(lambda votes, present: compare(2 * votes, present))(call)
    labels = majority(call.ratings, call.rater_mask, ties=ties, generator=call.generator, batched=call.stack.batched)
    return call.by_voxel(labels.to(torch.float32), call.equal)


def _random(call: _Call) -> FusionResult:
    assert call.generator is not None
    chosen = np.array(draw_raters(call.stack, call.generator))
    volume = PatternVolume.count(call.stack)
    weights = (np.arange(call.stack.raters) == chosen[:, None]).astype(np.float64)
    return call.by_pattern(volume, volume.bits.T[chosen].astype(np.float64), weights)


def _weighted(call: _Call) -> FusionResult:
    if "weights" not in call.options:
        raise ValueError("fuse: weighted needs weights, one number per rater. Got None.")
    shares = weight_shares(call.stack, call.options["weights"])
    volume = PatternVolume.count(call.stack)
    return call.by_pattern(volume, weighted_shares(volume, shares), shares)


def _soft_gaussian(call: _Call) -> FusionResult:
    options = {"spacing": call.spacing, "batched": call.stack.batched, **call.options}
    return call.by_voxel(soft_gaussian(call.ratings, call.rater_mask, **options), call.equal)


def _svls(call: _Call) -> FusionResult:
    smoothed = svls(call.ratings, call.rater_mask, batched=call.stack.batched, **call.options)
    return call.by_voxel(smoothed, call.equal)


def _staple(call: _Call) -> FusionResult:
    found = staple(call.ratings, call.rater_mask, batched=call.stack.batched, **call.options)
    return call.result(
        found.probability,
        found.sensitivity,
        found.specificity,
        np.where(call.stack.present, np.nan, 0.0),
        iterations=found.iterations,
        converged=found.converged,
    )


def _simple(call: _Call) -> FusionResult:
    volume = PatternVolume.count(call.stack)
    found = select_raters(volume, **call.options)
    return call.by_pattern(
        volume,
        found.estimate.astype(np.float64),
        found.weights,
        dropped=call.stack.per_case(found.dropped),
        iterations=call.stack.number(found.iterations),
        converged=call.stack.number(found.converged),
    )


def _dawid_skene(call: _Call) -> FusionResult:
    stack = call.stack
    planes = stack.planes.reshape(len(stack.present), stack.raters, *stack.shape[1 + stack.batched :])
    found = dawid_skene(planes, torch.from_numpy(stack.present), **call.options)
    confusion = found.confusion.numpy()
    return call.result(
        found.probability[:, 1].reshape(stack.shape),
        stack.per_case(confusion[:, :, 1, 1]),
        stack.per_case(confusion[:, :, 0, 0]),
        np.where(stack.present, np.nan, 0.0),
        iterations=stack.number(np.asarray(found.iterations)),
        converged=stack.number(np.asarray(found.converged)),
    )


def _against(probability: Tensor, stack: Stack) -> tuple[Floats, Floats]:
    """Sensitivity and specificity ``[B, R]`` against a map of voxels, see ``performance``."""
    maps = probability.reshape(len(stack.present), -1)
    hits, sizes = np.zeros(stack.present.shape), np.zeros(stack.present.shape)
    inside = np.zeros((len(stack.present), 1))
    step = block_size(maps.device)
    for start in range(0, maps.shape[1], step):
        part = maps[:, start : start + step].to(torch.float64)
        inside[:, 0] += part.sum(1).cpu().numpy()
        for r in range(stack.raters):
            plane = stack.planes[:, r, start : start + step]
            hits[:, r] += (part * plane).sum(1).cpu().numpy()
            sizes[:, r] += plane.sum(1).cpu().numpy()
    outside = maps.shape[1] - inside
    sensitivity, specificity = share(hits, inside), share(outside - sizes + hits, outside)
    sensitivity[~stack.present], specificity[~stack.present] = np.nan, np.nan
    return sensitivity, specificity


FUSIONS: dict[str, FusionMethod] = {
    method.name: method
    for method in (
        FusionMethod("random", "the mask of one rater, drawn at random", _random, random=True),
        FusionMethod("majority", "more than half of the raters (ties: see the option)", _majority, ("ties",)),
        FusionMethod("union", "at least one rater", _by_votes(lambda votes, present: votes > 0 * present)),
        FusionMethod("intersection", "all raters", _by_votes(lambda votes, present: votes == present)),
        FusionMethod("soft", "share of the raters", _by_votes(lambda votes, present: votes / present)),
        FusionMethod(
            "soft_gaussian",
            "share of the raters, blurred by a Gaussian",
            _soft_gaussian,
            ("sigma", "unit", "truncate"),
            spatial=True,
        ),
        FusionMethod("svls", "spatially varying label smoothing", _svls, ("kernel_size", "sigma"), spatial=True),
        FusionMethod(
            "staple",
            "STAPLE: truth and performance of the raters by expectation maximization",
            _staple,
            ("confidence_weight", "region", "max_iterations", "tolerance"),
        ),
        FusionMethod(
            "simple",
            "SIMPLE: weighted vote that drops the worst raters",
            _simple,
            ("alpha", "step", "min_raters", "max_iterations"),
        ),
        FusionMethod(
            "dawid_skene",
            "Dawid-Skene: as STAPLE, with the share of foreground estimated too",
            _dawid_skene,
            ("max_iterations", "tolerance"),
        ),
        FusionMethod("weighted", "vote with given weights", _weighted, ("weights",)),
    )
}
