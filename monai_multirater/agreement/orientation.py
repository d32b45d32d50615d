# SPDX-License-Identifier: Apache-2.0
"""Masks that look flipped, transposed or copied: found and reported, never changed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from monai_multirater.agreement.reference import check_case, code_table, others_majority

__all__ = ["DuplicateFinding", "FlipFinding", "detect_duplicates", "detect_flips"]

Move = tuple[tuple[int, ...], tuple[int, ...]]  # permutation of the axes, then axes to flip
_SAME_DICE = 0.02  # transformations whose Dice is this close to the best cannot be told apart


@dataclass(frozen=True)
class FlipFinding:
    """A rater whose mask agrees far better with the others after a change of orientation.

    Attributes:
        rater: index of the rater.
        permutation: order of the spatial axes, as in ``Tensor.permute``; the identity for a pure flip.
        flips: spatial axes to flip after that, as in ``Tensor.flip``.
        dice_before: Dice of the mask and the strict majority of the other raters.
        dice_after: Dice of the changed mask and the same majority.
        alternatives: names of other changes whose Dice lies within 0.02 of `dice_after`: a lesion with a
            symmetry of its own cannot tell them apart.
        ambiguous: at least half of the raters present are reported, so it is open who is turned. Always so
            with two raters.
    """

    rater: int
    permutation: tuple[int, ...]
    flips: tuple[int, ...]
    dice_before: float
    dice_after: float
    alternatives: tuple[str, ...]
    ambiguous: bool

    @property
    def transform(self) -> str:
        """Name of the change, for example ``"flip axis 0"`` or ``"transpose axes to (1, 0), flip axis 1"``."""
        return _name((self.permutation, self.flips))

    def apply(self, mask: Tensor) -> Tensor:
        """Change a mask ``[*spatial]`` of this rater as described."""
        return mask.permute(self.permutation).flip(self.flips)


@dataclass(frozen=True)
class DuplicateFinding:
    """Raters whose masks are equal voxel by voxel.

    Attributes:
        raters: at least two indices, ascending.
        voxels: foreground voxels of the mask.
    """

    raters: tuple[int, ...]
    voxels: int


def detect_flips(
    ratings: Tensor,
    rater_mask: Tensor | None = None,
    *,
    max_dice: float = 0.7,
    min_dice_after: float = 0.7,
    min_gain: float = 0.25,
    min_voxels: int = 30,
) -> tuple[FlipFinding, ...]:
    """Find raters whose mask agrees far better with the others after flips and a transposition of axes.

    A rater is looked at only when the Dice with the strict majority of the other raters present is below
    `max_dice`. All flips about the center of the grid and all permutations of axes that keep its shape are
    tried (7 in a square, 3 in other rectangles, up to 47 in 3D; rotations by 90 and 180 degrees are among
    them); the best is reported when it reaches `min_dice_after` and gains at least `min_gain`. Of equally good
    ones the one with fewest steps is named, the others are listed. Only the coordinates of the mask's voxels
    are moved.

    What is not found: a flip that changes little, as of a lesion in the center of the image or symmetric about
    it, and what happened to most raters alike, because the majority is taken to be right (with three raters
    of whom two are flipped alike, the third is reported). With two raters both are reported and marked as
    ambiguous.

    Args:
        ratings: ``[R, *spatial]`` zeros and ones, bool or integer.
        rater_mask: ``[R]`` bool, True = present.
        max_dice: look only at raters below this Dice.
        min_dice_after: least Dice after the change. Half-overlapping masks reach 0.5 by chance, experts who
            outline the same lesion 0.7 or more.
        min_gain: least rise of the Dice. With these defaults none of about 10,000 unturned masks of LIDC,
            BU-BIL and phantoms is reported (largest rise to a Dice of 0.7 or more: 0.24), and nine in ten
            flipped masks of 2D phantoms with at least five raters whose Dice falls below 0.5 by the flip.
        min_voxels: leave out masks, and references, of fewer voxels: a few voxels fit after some turn.

    Returns:
        Findings ordered by rater; empty masks, absent raters and a rater alone give none.

    Raises:
        TypeError, ValueError: see :func:`rater_performance`; a bound outside 0..1.
    """
    function = "detect_flips"
    check_case(ratings, rater_mask, function=function)
    for name, bound in (("max_dice", max_dice), ("min_dice_after", min_dice_after), ("min_gain", min_gain)):
        if not 0 <= bound <= 1:
            raise ValueError(f"{function}: {name} must be in 0..1. Got {bound}.")
    codes, table = code_table(ratings, rater_mask)
    references, counts = others_majority(table), table.counts[:, None]
    moves = _moves(codes.shape)
    volume, size = table.gram().diagonal(), (references * counts).sum(0)
    shared = (references & table.bits).mul(counts).sum(0)
    found = []
    for r in range(table.raters):
        total = int(volume[r] + size[r])
        before = 2 * int(shared[r]) / total if total else 1.0
        if min(int(volume[r]), int(size[r])) < max(min_voxels, 1) or before >= max_dice:
            continue
        reference = table.expand(codes, references[:, r])
        overlaps = _overlaps((codes >> r & 1).nonzero(), reference, moves)
        dice = [2 * overlap / total for overlap in overlaps]
        best = max(range(len(moves)), key=dice.__getitem__, default=None)
        if best is not None and dice[best] >= min_dice_after and dice[best] - before >= min_gain:
            close = [k for k, value in enumerate(dice) if k != best and value >= dice[best] - _SAME_DICE]
            found.append((r, moves[best], before, dice[best], tuple(_name(moves[k]) for k in close)))
    ambiguous = 2 * len(found) >= table.n_raters
    return tuple(FlipFinding(r, *move, before, after, close, ambiguous) for r, move, before, after, close in found)


def detect_duplicates(
    ratings: Tensor, rater_mask: Tensor | None = None, *, min_voxels: int = 100
) -> tuple[DuplicateFinding, ...]:
    """Find raters whose masks are equal voxel by voxel: two people hardly ever draw the same outline.

    Args:
        ratings: ``[R, *spatial]`` zeros and ones, bool or integer.
        rater_mask: ``[R]`` bool, True = present.
        min_voxels: leave out masks of fewer voxels, which agree by chance: in the central slices of 897 LIDC
            nodules 2 % of the pairs of 20 to 50 voxels are equal, from 100 voxels on a steady 0.4 %. Empty
            masks are never reported.

    Returns:
        Groups of at least two raters, ordered by their first member.

    Raises:
        TypeError, ValueError: see :func:`rater_performance`.
    """
    check_case(ratings, rater_mask, function="detect_duplicates")
    _, table = code_table(ratings, rater_mask)
    groups: dict[bytes, list[int]] = {}
    volumes = table.gram().diagonal().tolist()
    for r in range(table.raters):
        if table.present >> r & 1 and volumes[r] >= max(min_voxels, 1):
            groups.setdefault(table.bits[:, r].numpy().tobytes(), []).append(r)
    return tuple(DuplicateFinding(tuple(group), volumes[group[0]]) for group in groups.values() if len(group) > 1)


def _moves(shape: Sequence[int]) -> list[Move]:
    """Every change of orientation that keeps the shape, simplest first, without the identity."""
    axes = range(len(shape))
    long = [axis for axis in axes if shape[axis] > 1]
    flips = [chosen for n in range(len(long) + 1) for chosen in itertools.combinations(long, n)]
    orders = [
        order
        for order in itertools.permutations(axes)
        if all(shape[a] == shape[b] and (shape[b] > 1 or a == b) for a, b in enumerate(order))
    ]
    moves = [(order, chosen) for order in orders for chosen in flips]
    moves.sort(key=lambda move: (move[0] != tuple(axes), len(move[1])))
    return moves[1:]


def _overlaps(points: Tensor, reference: Tensor, moves: Sequence[Move]) -> list[int]:
    """Voxels of the reference that the points ``[V, d]`` hit after each change."""
    flat, shape = reference.reshape(-1), reference.shape
    found = []
    for order, flips in moves:
        index = torch.zeros(len(points), dtype=torch.int64, device=points.device)
        for axis, source in enumerate(order):
            place = points[:, source]
            index = index * shape[axis] + (shape[axis] - 1 - place if axis in flips else place)
        found.append(flat[index].sum())
    return [int(overlap) for overlap in torch.stack(found).tolist()] if found else []


def _name(move: Move) -> str:
    order, flips = move
    parts = [] if order == tuple(range(len(order))) else [f"transpose axes to {order}"]
    if flips:
        parts.append(f"flip {'axis' if len(flips) == 1 else 'axes'} {', '.join(map(str, flips))}")
    return ", ".join(parts)
