# SPDX-License-Identifier: Apache-2.0
"""How each rater of one case performs against the others or against a given consensus."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_multirater.agreement.boundary import BoolArray, boundary_distances, occupied_box
from monai_multirater.agreement.reference import check_case, check_spacing, code_table, others_majority
from monai_multirater.votes import VoteTable

__all__ = ["RaterPerformance", "rater_performance"]

_FUNCTION = "rater_performance"


@dataclass(frozen=True, eq=False)
class RaterPerformance:
    r"""How the R raters of one case perform. All tensors are on the CPU; entry r belongs to rater r.

    With TP, FP, FN, TN the voxels of the case by what the rater and the reference say:

    ==================  ===========================================  ==============  ===========  ==========
    quantity            definition                                   both empty      rater empty  ref. empty
    ==================  ===========================================  ==============  ===========  ==========
    sensitivity         TP / (TP + FN)                               NaN             0            NaN
    specificity         TN / (TN + FP); NaN if the reference fills   1               1            as defined
                        the image
    dice                2 TP / (2 TP + FP + FN)                      1               0            0
    size_bias           (V - V_ref) / V_ref                          NaN             -1           NaN
    boundary_bias       mean signed distance of the rater's          0               NaN          NaN
                        boundary to the reference's, positive where
                        the rater goes outside
    boundary_distance   mean of its absolute value                   0               NaN          NaN
    ==================  ===========================================  ==============  ===========  ==========

    Everything is NaN for an absent rater and, except `volume`, for a rater without a reference (the only one).

    Attributes:
        reference: what the raters are compared with, ``"others"`` (to each rater the strict majority of the
            others) or ``"consensus"`` (one given mask).
        unit: ``"voxels"`` or ``"mm"``, the unit of distances; volumes have its power.
        present: bool ``[R]``.
        gram: int64 ``[R, R]``, voxels that two raters both mark, volumes on the diagonal; 0 for absent raters.
        counts: int64 ``[R, 4]``, TP, FP, FN, TN; all 0 without a reference.
        voxel_volume: volume of a voxel, 1 in voxels.
        boundary_bias: float64 ``[R]`` in `unit`. It looks from the rater's boundary only: what a rater leaves
            out altogether shows in the sensitivity, not here.
        boundary_distance: float64 ``[R]`` in `unit`, likewise.
    """

    reference: str
    unit: str
    present: Tensor
    gram: Tensor
    counts: Tensor
    voxel_volume: float
    boundary_bias: Tensor
    boundary_distance: Tensor

    @property
    def compared(self) -> Tensor:
        """Bool ``[R]``: who has a reference."""
        return self.counts.sum(1) > 0

    @property
    def empty(self) -> Tensor:
        """Bool ``[R]``: who is present and marked nothing."""
        return self.present & (self.gram.diagonal() == 0)

    @property
    def sensitivity(self) -> Tensor:
        """float64 ``[R]``, share of the reference that the rater marks."""
        tp, _, fn, _ = self.counts.unbind(1)
        return _ratio(tp, tp + fn)

    @property
    def specificity(self) -> Tensor:
        """float64 ``[R]``, share of the background of the reference that the rater leaves out."""
        _, fp, _, tn = self.counts.unbind(1)
        return _ratio(tn, tn + fp)

    @property
    def dice(self) -> Tensor:
        """float64 ``[R]``, Dice coefficient of the rater and the reference; 1 if both are empty."""
        tp, fp, fn, _ = self.counts.unbind(1)
        both_empty = self.compared & (tp + fp + fn == 0)
        return _ratio(2 * tp, 2 * tp + fp + fn).masked_fill(both_empty, 1.0)

    @property
    def volume(self) -> Tensor:
        """float64 ``[R]``, what the rater marks, in voxels or mm^d."""
        return (self.gram.diagonal() * self.voxel_volume).masked_fill(~self.present, math.nan)

    @property
    def reference_volume(self) -> Tensor:
        """float64 ``[R]``, volume of each rater's reference, in voxels or mm^d."""
        return ((self.counts[:, 0] + self.counts[:, 2]) * self.voxel_volume).masked_fill(~self.compared, math.nan)

    @property
    def size_bias(self) -> Tensor:
        """float64 ``[R]``, relative volume difference (V - V_ref) / V_ref; 0.1 is ten percent too large."""
        tp, fp, fn, _ = self.counts.unbind(1)
        return _ratio(fp - fn, tp + fn)

    @property
    def pairwise_dice(self) -> Tensor:
        """float64 ``[R, R]``, Dice of two raters; both empty 1, one empty 0, NaN where one is absent."""
        volumes = self.gram.diagonal()
        total = volumes[:, None] + volumes
        absent = ~(self.present[:, None] & self.present)
        return _ratio(2 * self.gram, total).masked_fill(total == 0, 1.0).masked_fill(absent, math.nan)

    @property
    def agreement(self) -> Tensor:
        """float64 ``[R]``, median Dice of the rater with each of the others; NaN for a rater who is alone.

        The median of an even number of values is the mean of the two in the middle. Unlike `dice` it does not
        depend on the reference: one bad rater among three leaves the other two a good partner.
        """
        pairs = self.pairwise_dice.clone().fill_diagonal_(math.nan)
        return torch.nanquantile(pairs, 0.5, dim=1)

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON; :meth:`from_dict` restores the same bits."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value.tolist() if isinstance(value, Tensor) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RaterPerformance:
        """Restore what :meth:`as_dict` gave."""
        dtypes = {"present": torch.bool, "gram": torch.int64, "counts": torch.int64}
        dtypes |= {"boundary_bias": torch.float64, "boundary_distance": torch.float64}
        tensors = {name: torch.tensor(values[name], dtype=dtype) for name, dtype in dtypes.items()}
        return cls(values["reference"], values["unit"], voxel_volume=float(values["voxel_volume"]), **tensors)


def rater_performance(
    ratings: Tensor,
    rater_mask: Tensor | None = None,
    *,
    consensus: Tensor | None = None,
    spacing: Sequence[float] | None = None,
) -> RaterPerformance:
    """Compare every rater of one case with the others or with a given consensus.

    Without `consensus`, the reference of a rater is the strict majority of the other raters present: nobody is
    compared with a mask that they helped to make. A tie, half of an even number of others, is background, as
    in ``majority``; with three raters the reference is thus what both others mark, and every size bias is
    shifted upwards by the same cause: read raters against each other. Counts come from the table of vote
    patterns and are exact; each distinct reference takes one Euclidean distance transform (SciPy) in the box
    of all masks. Boundaries are the centers of the mask voxels with a face neighbor outside the mask, beyond
    the image all is background, and every boundary voxel weighs the same. An axis of length 1 carries no
    boundary, so a slice gives the same distances in 2D and in 3D.

    Args:
        ratings: ``[R, *spatial]`` zeros and ones, bool or integer, on any device.
        rater_mask: ``[R]`` bool, True = present.
        consensus: ``[1, *spatial]`` or ``[*spatial]`` zeros and ones, bool or integer, the reference of all.
        spacing: voxel size in mm along each spatial axis; None measures in voxels.

    Returns:
        :class:`RaterPerformance`; its table says what empty masks give.

    Raises:
        TypeError: floating-point ratings or consensus.
        ValueError: values other than 0 and 1, nobody present, a batch, or a consensus or spacing that does not
            fit.
    """
    check_case(ratings, rater_mask, function=_FUNCTION)
    shape = ratings.shape[1:]
    sizes = check_spacing(spacing, len(shape), function=_FUNCTION)
    codes, table = code_table(ratings, rater_mask)
    here = [r for r in range(table.raters) if table.present >> r & 1]
    references: Iterable[tuple[list[int], Tensor]]
    if consensus is None:
        columns = others_majority(table)
        counts = _counts(table, columns) if len(here) > 1 else torch.zeros(table.raters, 4, dtype=torch.int64)
        box = occupied_box(codes != 0)
        crop = codes[box]
        groups = _same_columns(columns, here) if len(here) > 1 else []
        references = ((group, table.expand(crop, columns[:, group[0]])) for group in groups)
    else:
        mask = _check_consensus(consensus, shape).to(codes.device)
        counts = _consensus_counts(table, VoteTable.from_codes(codes[mask], table.raters, rater_mask))
        box = occupied_box((codes != 0) | mask)
        crop = codes[box]
        references = [(here, mask[box])]
    present = torch.zeros(table.raters, dtype=torch.bool)
    present[here] = True
    signed, absolute = _boundaries(crop, references, table.raters, shape, sizes)
    return RaterPerformance(
        "others" if consensus is None else "consensus",
        "voxels" if spacing is None else "mm",
        present,
        table.gram(),
        counts * present[:, None],
        math.prod(sizes),
        signed,
        absolute,
    )


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient in float64, NaN where the denominator is zero."""
    quotient = numerator.to(torch.float64) / denominator
    return quotient.masked_fill(denominator == 0, math.nan)


def _counts(table: VoteTable, reference: Tensor) -> Tensor:
    """TP, FP, FN, TN ``[R, 4]`` against a reference ``[P, R]`` over the patterns."""
    bits, counts = table.bits, table.counts[:, None]
    cells = (bits & reference, bits & ~reference, ~bits & reference, ~bits & ~reference)
    return torch.stack([(cell * counts).sum(0) for cell in cells], dim=1)


def _consensus_counts(table: VoteTable, inside: VoteTable) -> Tensor:
    """TP, FP, FN, TN ``[R, 4]`` from the table of the case and that of the voxels inside the consensus."""
    volume, tp = table.gram().diagonal(), inside.gram().diagonal()
    fp, fn = volume - tp, inside.voxels - tp
    return torch.stack([tp, fp, fn, table.voxels - tp - fp - fn], dim=1)


def _same_columns(columns: Tensor, raters: Iterable[int]) -> list[list[int]]:
    """Raters grouped by their reference: equal columns are equal masks."""
    groups: dict[bytes, list[int]] = {}
    for r in raters:
        groups.setdefault(columns[:, r].numpy().tobytes(), []).append(r)
    return list(groups.values())


def _boundaries(
    codes: Tensor,
    references: Iterable[tuple[list[int], Tensor]],
    raters: int,
    shape: Sequence[int],
    sizes: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """Mean signed and absolute boundary distance, float64 ``[R]`` each; NaN for raters without a reference."""
    signed = torch.full((raters,), math.nan, dtype=torch.float64)
    absolute = signed.clone()
    axes = [axis for axis, length in enumerate(shape) if length > 1] or [0]
    cropped = [codes.shape[axis] for axis in axes]
    for group, reference in references:
        masks = [_array((codes >> r & 1).bool(), cropped) for r in group]
        found = boundary_distances(masks, _array(reference, cropped), [sizes[axis] for axis in axes])
        for r, (bias, distance) in zip(group, found, strict=True):
            signed[r], absolute[r] = bias, distance
    return signed, absolute


def _array(mask: Tensor, shape: Sequence[int]) -> BoolArray:
    return np.asarray(mask.cpu().numpy(), dtype=np.bool_).reshape(shape)


def _check_consensus(consensus: Tensor, shape: torch.Size) -> Tensor:
    mask = consensus if consensus.ndim == len(shape) + 1 else consensus[None]
    if mask.shape != (1, *shape):
        raise ValueError(
            f"{_FUNCTION}: consensus must be [1, *spatial] or [*spatial] with spatial shape {tuple(shape)}. "
            f"Got shape {tuple(consensus.shape)}."
        )
    check_case(mask, None, function=f"{_FUNCTION}: consensus as")
    return mask[0].as_subclass(Tensor).bool()
