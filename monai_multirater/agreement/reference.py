# SPDX-License-Identifier: Apache-2.0
"""What a rater is compared with: the others' majority, as a column over the vote patterns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from monai_multirater.votes import VoteTable, check_ratings, encode_votes

__all__ = ["check_case", "check_spacing", "code_table", "others_majority"]


def others_majority(table: VoteTable) -> Tensor:
    """Bool ``[P, R]``: for each pattern, whether more than half of the other raters present say foreground.

    Exactly half is background, so two others mark what both mark. The column of an absent rater means
    nothing; with one rater present nobody is left and the column is all False.
    """
    others = table.votes[:, None] - table.bits.to(torch.int64)
    return 2 * others > table.n_raters - 1


def check_case(ratings: Tensor, rater_mask: Tensor | None, *, function: str) -> None:
    """Check that ``ratings`` is one case ``[R, *spatial]`` of zeros and ones with at least one rater present."""
    check_ratings(ratings, rater_mask, name=f"{function}: ratings")
    if rater_mask is not None and rater_mask.ndim != 1:
        raise ValueError(
            f"{function}: rater_mask must be [R] for one case. Got shape {tuple(rater_mask.shape)}; "
            "give the cases of a batch one by one."
        )
    if ratings.ndim < 2:
        raise ValueError(f"{function}: ratings must be [R, *spatial]. Got shape {tuple(ratings.shape)}.")


def code_table(ratings: Tensor, rater_mask: Tensor | None) -> tuple[Tensor, VoteTable]:
    """Codes ``[*spatial]`` of a checked case and their table."""
    codes = encode_votes(ratings, rater_mask)
    return codes, VoteTable.from_codes(codes, ratings.shape[0], rater_mask)


def check_spacing(spacing: Sequence[float] | None, dimensions: int, *, function: str) -> tuple[float, ...]:
    """Voxel size along each spatial axis as floats; 1 along every axis for None."""
    if spacing is None:
        return (1.0,) * dimensions
    sizes = tuple(float(size) for size in spacing)
    if len(sizes) != dimensions or not all(0 < size < float("inf") for size in sizes):
        raise ValueError(
            f"{function}: spacing must be {dimensions} positive lengths, one per spatial axis. Got {sizes}."
        )
    return sizes
