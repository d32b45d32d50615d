# SPDX-License-Identifier: Apache-2.0
"""Agreement of all raters of a case together: Fleiss' kappa, Krippendorff's alpha, conformity, entropy of the votes.

All of them depend on a voxel only through its number of votes, so they are read from how many voxels have 0, 1, ..., n
votes of the n raters present. Sums are exact integers; one division comes last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from monai_multirater.agreement.reference import check_case
from monai_multirater.votes import VoteTable, count_votes
from monai_multirater.votes.counting import as_bytes, block_size, check_stack

__all__ = [
    "GroupAgreement",
    "agreement_volumes",
    "conformity_index",
    "fleiss_kappa",
    "group_agreement",
    "krippendorff_alpha",
    "vote_entropy",
]

_NAN = float("nan")


@dataclass(frozen=True, eq=False)
class GroupAgreement:
    """The group measures of one case.

    Attributes:
        fleiss_kappa: see :func:`fleiss_kappa`.
        krippendorff_alpha: see :func:`krippendorff_alpha`.
        conformity: see :func:`conformity_index`.
        entropy: see :func:`vote_entropy`.
        volumes: see :func:`agreement_volumes`.
    """

    fleiss_kappa: float
    krippendorff_alpha: float
    conformity: float
    entropy: float
    volumes: Tensor


def group_agreement(votes: Tensor | VoteTable, rater_mask: Tensor | None = None) -> GroupAgreement:
    """All group measures of one case.

    Args:
        votes: ratings ``[R, *spatial]``, zeros and ones, bool or integer, at most 64 raters; or their table.
        rater_mask: ``[R]`` bool, True = present; a table knows who is present.

    Raises:
        TypeError: neither a tensor nor a table, or floating-point ratings.
        ValueError: a ``rater_mask`` beside a table or of the wrong shape, nobody present, a rating other than 0 and 1,
            or no voxels.
    """
    levels = _levels(votes, rater_mask, "group_agreement")
    return GroupAgreement(_fleiss(levels), _alpha([levels]), _conformity(levels), _entropy(levels), _volumes(levels))


def fleiss_kappa(votes: Tensor | VoteTable, rater_mask: Tensor | None = None) -> float:
    """Fleiss' kappa over the voxels of the image, with two categories.

    ``(P - P_e) / (1 - P_e)``: P the mean share of agreeing rater pairs of a voxel, ``P_e = p^2 + (1 - p)^2`` with p the
    share of foreground among all votes. NaN for a rater alone and where all votes are the same. Fleiss 1971,
    doi:10.1037/h0031619. Arguments and errors as in :func:`group_agreement`.
    """
    return _fleiss(_levels(votes, rater_mask, "fleiss_kappa"))


def krippendorff_alpha(votes: Tensor | VoteTable | Sequence[VoteTable], rater_mask: Tensor | None = None) -> float:
    """Krippendorff's alpha for nominal data; raters may be missing.

    ``1 - D_o / D_e``, which is ``1 - (n - 1) sum_v k_v (m_v - k_v) / (m_v - 1) / (n_0 n_1)`` for k_v foreground votes
    among the m_v raters of a voxel, n votes in all, n_0 and n_1 of them background and foreground. A voxel with one
    vote does not enter. NaN where no voxel has two votes, or all votes are the same. Krippendorff 2011,
    https://repository.upenn.edu/asc_papers/43.

    Args:
        votes: as in :func:`group_agreement`; or the tables of several cases, whose voxels are pooled. Other raters may
            be present in each.
        rater_mask: as in :func:`group_agreement`.

    Raises:
        TypeError, ValueError: see :func:`group_agreement`; an empty sequence.
    """
    function = "krippendorff_alpha"
    if isinstance(votes, (Tensor, VoteTable)):
        return _alpha([_levels(votes, rater_mask, function)])
    if not isinstance(votes, Sequence) or not votes:
        raise ValueError(f"{function}: votes must be ratings, a VoteTable or a sequence of them. Got {votes!r}.")
    return _alpha([_levels(table, rater_mask, function) for table in votes])


def conformity_index(votes: Tensor | VoteTable, rater_mask: Tensor | None = None) -> float:
    """Generalized conformity index, a Jaccard index of many masks.

    ``sum over pairs of |A and B| / sum over pairs of |A or B|``. 1 where all masks are empty, NaN for a rater alone.
    Kouwenhoven 2009, doi:10.1088/0031-9155/54/9/N06. Arguments and errors as in :func:`group_agreement`.
    """
    return _conformity(_levels(votes, rater_mask, "conformity_index"))


def vote_entropy(votes: Tensor | VoteTable, rater_mask: Tensor | None = None) -> float:
    """Mean entropy of the votes, in bits, over the voxels that any rater marks.

    ``-p log2 p - (1 - p) log2 (1 - p)`` with p the share of the raters present who mark the voxel. 0 where all masks
    are empty, NaN for a rater alone. Arguments and errors as in :func:`group_agreement`.
    """
    return _entropy(_levels(votes, rater_mask, "vote_entropy"))


def agreement_volumes(votes: Tensor | VoteTable, rater_mask: Tensor | None = None) -> Tensor:
    """Voxels that at least k raters mark, int64 ``[n]`` for k = 1, ..., n, the number of raters present.

    The first is the size of the union, the last that of the intersection. Arguments and errors as in
    :func:`group_agreement`.
    """
    return _volumes(_levels(votes, rater_mask, "agreement_volumes"))


def _levels(votes: Tensor | VoteTable, rater_mask: Tensor | None, function: str) -> list[int]:
    """Voxels with 0, 1, ..., n votes."""
    if isinstance(votes, VoteTable):
        if rater_mask is not None:
            raise ValueError(
                f"{function}: rater_mask must be None beside a table, which knows who is present. Got a mask."
            )
        levels = votes.level_counts()
    else:
        _check(votes, rater_mask, function)
        number = votes.shape[0] if rater_mask is None else int(rater_mask.sum())
        levels = torch.zeros(number + 1, dtype=torch.int64, device=votes.device)
        found = count_votes(votes, rater_mask).reshape(-1)
        for block in torch.split(found, block_size(found.device)):
            levels += torch.bincount(block, minlength=number + 1)
    if not int(levels.sum()):
        raise ValueError(f"{function}: votes must have voxels. Got none.")
    return [int(count) for count in levels.tolist()]


def _check(ratings: Tensor, rater_mask: Tensor | None, function: str) -> None:
    """Check a case; a plain look at the largest byte comes first."""
    check_stack(ratings, 0, f"{function}: ratings")
    plain = rater_mask is None and ratings.element_size() == 1 and ratings.ndim > 1 and ratings.numel() > 0
    if not (plain and int(as_bytes(ratings).max()) <= 1):
        check_case(ratings, rater_mask, function=function)


def _fleiss(levels: list[int]) -> float:
    raters, voxels = len(levels) - 1, sum(levels)
    marked = sum(k * count for k, count in enumerate(levels))
    apart = sum(k * (raters - k) * count for k, count in enumerate(levels))
    chance = (raters - 1) * marked * (raters * voxels - marked)
    return float(1 - Fraction(apart * raters * voxels, chance)) if chance else _NAN


def _alpha(cases: list[list[int]]) -> float:
    ones = total = 0
    apart = Fraction(0)
    for levels in cases:
        raters = len(levels) - 1
        if raters > 1:
            ones += sum(k * count for k, count in enumerate(levels))
            total += raters * sum(levels)
            apart += Fraction(sum(k * (raters - k) * count for k, count in enumerate(levels)), raters - 1)
    chance = ones * (total - ones)
    return float(1 - (total - 1) * apart / chance) if chance else _NAN


def _conformity(levels: list[int]) -> float:
    raters = len(levels) - 1
    if raters < 2:
        return _NAN
    shared = sum(math.comb(k, 2) * count for k, count in enumerate(levels))
    either = sum((math.comb(raters, 2) - math.comb(raters - k, 2)) * count for k, count in enumerate(levels))
    return shared / either if either else 1.0


def _entropy(levels: list[int]) -> float:
    raters, marked = len(levels) - 1, sum(levels[1:])
    if raters < 2:
        return _NAN
    bits = [0.0, *(_bits(k / raters) for k in range(1, raters)), 0.0]
    return math.fsum(count * value for count, value in zip(levels, bits, strict=True)) / marked if marked else 0.0


def _bits(share: float) -> float:
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)


def _volumes(levels: list[int]) -> Tensor:
    return torch.tensor(levels[1:], dtype=torch.int64).flip(0).cumsum(0).flip(0)
