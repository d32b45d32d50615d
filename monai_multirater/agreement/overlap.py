# SPDX-License-Identifier: Apache-2.0
"""Overlap of all pairs of raters from one pass over their masks: Dice, IoU, Cohen's kappa and relatives.

Everything is read from the Gram matrix of the masks, the int64 counts of voxels that two raters both mark. The values
for empty masks are those of :mod:`monai_multirater.agreement.measures`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from monai_multirater.agreement.bits import bit_gram
from monai_multirater.agreement.measures import OVERLAP_MEASURES
from monai_multirater.votes import VoteTable, check_ratings
from monai_multirater.votes.counting import as_bytes, check_mask, check_stack

__all__ = [
    "PairOverlap",
    "mean_pairwise_dice",
    "pair_indices",
    "pair_overlap",
    "pairwise_dice",
    "pairwise_iou",
    "pairwise_kappa",
    "upper_pairs",
]

_EXACT_VOXELS = 3_000_000_000  # below it the products of kappa fit into 63 bits
_BYTES = (torch.bool, torch.uint8, torch.int8)
_FLOAT_BLOCK = 1 << 20  # voxels; far below 2^24, where float32 stops counting


@dataclass(frozen=True, eq=False)
class PairOverlap:
    """Sizes of the masks of R raters and of what any two of them share.

    Entry ``[i, j]`` of a measure has rater a = i and rater b = j; NaN where one of the two is absent.

    Attributes:
        gram: int64 ``[R, R]`` or ``[B, R, R]``: voxels that both raters mark, volumes on the diagonal, 0 for absent
            raters.
        voxels: of the image.
        present: bool ``[R]`` or ``[B, R]``.
    """

    gram: Tensor
    voxels: int
    present: Tensor

    @classmethod
    def from_table(cls, table: VoteTable) -> PairOverlap:
        """Read the overlap from pattern counts that are there already."""
        present = torch.tensor([bool(table.present >> r & 1) for r in range(table.raters)])
        return cls(table.gram(), table.voxels, present)

    @property
    def volumes(self) -> Tensor:
        """int64 ``[..., R]``: voxels that each rater marks."""
        return self.gram.diagonal(dim1=-2, dim2=-1)

    @property
    def dice(self) -> Tensor:
        """``2 |A and B| / (|A| + |B|)``; 1 where both masks are empty. Dice 1945, doi:10.2307/1932409."""
        a, b = self._sizes()
        return self._share(2 * self.gram, a + b, empty=1.0)

    @property
    def iou(self) -> Tensor:
        """``|A and B| / |A or B|``; 1 where both masks are empty."""
        a, b = self._sizes()
        return self._share(self.gram, a + b - self.gram, empty=1.0)

    @property
    def kappa(self) -> Tensor:
        """Cohen's kappa over the voxels of the image.

        ``(p_o - p_e) / (1 - p_e)``, which is ``2 (N |A and B| - |A| |B|) / (|A| (N - |B|) + |B| (N - |A|))``. NaN where
        both masks are empty or both fill the image. Cohen 1960, doi:10.1177/001316446002000104.
        """
        kind = torch.int64 if self.voxels < _EXACT_VOXELS else torch.float64
        a, b = (size.to(kind) for size in self._sizes())
        apart = a * (self.voxels - b) + b * (self.voxels - a)
        return self._share(2.0 * (self.voxels * self.gram.to(kind) - a * b).to(torch.float64), apart)

    @property
    def sensitivity(self) -> Tensor:
        """Of rater a with rater b as reference, ``|A and B| / |B|``; NaN where B is empty."""
        return self._share(self.gram, self._sizes()[1])

    @property
    def specificity(self) -> Tensor:
        """Of rater a with rater b as reference, ``|not A and not B| / |not B|``; NaN where B fills the image."""
        a, b = self._sizes()
        return self._share(self.voxels - a - b + self.gram, self.voxels - b)

    @property
    def volume_difference(self) -> Tensor:
        """``(|A| - |B|) / ((|A| + |B|) / 2)``, positive where rater a marks more; 0 where both masks are empty."""
        a, b = self._sizes()
        return self._share(2 * (a - b), a + b, empty=0.0)

    def values(self) -> dict[str, Tensor]:
        """All measures by their names, float64 ``[..., R, R]``."""
        return {name: getattr(self, name) for name in OVERLAP_MEASURES}

    def pairs(self) -> dict[str, Tensor]:
        """All measures of the pairs a < b, float64 ``[..., R (R - 1) / 2]``; order as in :func:`pair_indices`."""
        return {name: upper_pairs(value) for name, value in self.values().items()}

    def _sizes(self) -> tuple[Tensor, Tensor]:
        return self.volumes[..., :, None].expand_as(self.gram), self.volumes[..., None, :].expand_as(self.gram)

    def _share(self, part: Tensor, whole: Tensor, *, empty: float = float("nan")) -> Tensor:
        value = part.to(torch.float64) / whole
        value[whole == 0] = empty
        value[~(self.present[..., :, None] & self.present[..., None, :])] = float("nan")
        return value


def pair_overlap(ratings: Tensor, rater_mask: Tensor | None = None, *, batched: bool | None = None) -> PairOverlap:
    """Count what all pairs of raters share, in one pass over their masks.

    On a CPU the masks are packed into bits block by block and the ones of ``A and B`` are counted; no memory of the
    size of the masks is needed. On other devices the counts are matrix products of blocks in float32 that are far
    below 2^24 voxels, hence exact.

    Args:
        ratings: ``[R, *spatial]`` or ``[B, R, *spatial]``, zeros and ones, bool or integer, at most 64 raters.
        rater_mask: ``[R]`` or ``[B, R]`` bool, True = present. The planes of absent raters are not looked at.
        batched: whether the first axis is the batch; by default a two-dimensional ``rater_mask`` says so.

    Returns:
        The counts, on the CPU; with a batch axis if the ratings have one.

    Raises:
        TypeError: no tensor, or floating-point ratings.
        ValueError: no or more than 64 raters, no voxels, a mask of the wrong shape, nobody present in an item, or a
            value other than 0 and 1.
    """
    if batched is None:
        batched = rater_mask is not None and rater_mask.ndim == 2
    dim = 1 if batched else 0
    check_stack(ratings, dim, "pair_overlap: ratings")
    present = torch.ones(ratings.shape[: dim + 1], dtype=torch.bool)
    if rater_mask is not None:
        present &= check_mask(rater_mask, ratings, dim).cpu()
    planes = _planes(ratings, dim)
    if planes.shape[2] == 0:
        raise ValueError(f"pair_overlap: ratings must have voxels. Got shape {tuple(ratings.shape)}.")
    on_bits = planes.device.type == "cpu"
    if not on_bits or ratings.dtype not in _BYTES:
        check_ratings(ratings, present.to(ratings.device), name="pair_overlap: ratings")
    gram, largest = _gram(planes, present.reshape(len(planes), -1), _count_bits if on_bits else _count_products)
    if largest > 1:
        check_ratings(ratings, present, name="pair_overlap: ratings")  # says which rater
    return PairOverlap(gram if batched else gram[0], planes.shape[2], present)


def pairwise_dice(ratings: Tensor, rater_mask: Tensor | None = None, *, batched: bool | None = None) -> Tensor:
    """Dice of all pairs of raters, float64 ``[R, R]`` or ``[B, R, R]``; see :func:`pair_overlap` for the arguments.

    1 where both masks are empty, 0 where one is, NaN where one of the raters is absent.
    """
    return pair_overlap(ratings, rater_mask, batched=batched).dice


def pairwise_iou(ratings: Tensor, rater_mask: Tensor | None = None, *, batched: bool | None = None) -> Tensor:
    """Intersection over union of all pairs of raters; everything else as in :func:`pairwise_dice`."""
    return pair_overlap(ratings, rater_mask, batched=batched).iou


def pairwise_kappa(ratings: Tensor, rater_mask: Tensor | None = None, *, batched: bool | None = None) -> Tensor:
    """Cohen's kappa of all pairs of raters over the voxels of the image, float64 ``[R, R]`` or ``[B, R, R]``.

    NaN where both masks are empty, both fill the image, or one of the raters is absent; 0 where one mask is empty. For
    the arguments see :func:`pair_overlap`.
    """
    return pair_overlap(ratings, rater_mask, batched=batched).kappa


def mean_pairwise_dice(ratings: Tensor, rater_mask: Tensor | None = None, *, batched: bool | None = None) -> Tensor:
    """Mean of the Dice over the pairs of raters present, a float64 scalar or ``[B]``; NaN for a rater alone.

    For the arguments see :func:`pair_overlap`. This is the agreement of an image in arXiv:2508.09381, which resizes the
    masks to 256 x 256 first.
    """
    return upper_pairs(pairwise_dice(ratings, rater_mask, batched=batched)).nanmean(-1)


def pair_indices(raters: int) -> tuple[Tensor, Tensor]:
    """Raters a < b of all pairs, two int64 ``[R (R - 1) / 2]``: (0, 1), (0, 2), ..., (1, 2), ..."""
    first, second = torch.triu_indices(raters, raters, 1)
    return first, second


def upper_pairs(matrix: Tensor) -> Tensor:
    """Entries ``[..., R (R - 1) / 2]`` of ``matrix [..., R, R]`` above the diagonal, in that order."""
    first, second = pair_indices(matrix.shape[-1])
    return matrix[..., first, second]


def _planes(ratings: Tensor, dim: int) -> Tensor:
    """uint8 ``[B, R, N]`` in the order in which the voxels lie in memory, which is the same for all raters."""
    planes = as_bytes(ratings)
    axes = sorted(range(dim + 1, planes.ndim), key=planes.stride, reverse=True)
    ordered = planes.permute(*range(dim + 1), *axes)
    return (ordered if dim else ordered[None]).flatten(2) if axes else ordered.reshape(*planes.shape[: dim + 1], 1)


def _gram(planes: Tensor, present: Tensor, count: Callable[..., tuple[Tensor, int]]) -> tuple[Tensor, int]:
    """int64 ``[B, R, R]`` and the largest byte of the raters present; absent ones cost nothing."""
    if bool(present.all()):
        return count(planes, None)
    gram = torch.zeros(*present.shape, present.shape[1], dtype=torch.int64)
    largest = 0
    for case, here in enumerate(present):
        raters = here.nonzero().flatten()
        counts, most = count(planes[case : case + 1], raters)
        gram[case, raters[:, None], raters] = counts[0]
        largest = max(largest, most)
    return gram, largest


def _count_bits(planes: Tensor, raters: Tensor | None) -> tuple[Tensor, int]:
    counts, largest = bit_gram(planes.numpy(), None if raters is None else raters.numpy())
    return torch.from_numpy(counts), largest


def _count_products(planes: Tensor, raters: Tensor | None) -> tuple[Tensor, int]:
    """The same by matrix products of masks that were checked before."""
    chosen = slice(None) if raters is None else raters.to(planes.device)
    number = planes.shape[1] if raters is None else len(raters)
    gram = torch.zeros(len(planes), number, number, dtype=torch.int64, device=planes.device)
    together = max(1, _FLOAT_BLOCK // planes.shape[2])
    for first in range(0, len(planes), together):
        cases = slice(first, first + together)
        for part in torch.split(planes[cases], _FLOAT_BLOCK, dim=2):
            block = part[:, chosen].to(torch.float32)
            gram[cases] += (block @ block.mT).to(torch.int64)
    return gram.cpu(), 1
