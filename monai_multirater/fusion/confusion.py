# SPDX-License-Identifier: Apache-2.0
"""Patterns of class labels, and what Dawid-Skene and multi-label STAPLE share: confusion matrices of the raters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monai_multirater.fusion.patterns import Floats
from monai_multirater.votes.counting import check_mask, check_stack

__all__ = ["LabelPatterns"]

Bools = npt.NDArray[np.bool_]
_DENSE = 1 << 16


@dataclass(frozen=True, eq=False)
class LabelPatterns:
    """Which combinations of labels occur in a case, how often, and where.

    Attributes:
        labels: int64 ``[P, R]``, what each rater says in each pattern; 0 for absent raters.
        counts: float64 ``[P]`` (whole numbers), voxels with that pattern.
        present: bool ``[R]``.
        classes: C.
        index: int64 ``[N]``, the pattern of each voxel.
        spatial: shape of the case.
    """

    labels: npt.NDArray[np.int64]
    counts: Floats
    present: Bools
    classes: int
    index: Tensor
    spatial: tuple[int, ...]

    @classmethod
    def count(cls, labels: Tensor, rater_mask: Tensor | None, classes: int, name: str) -> LabelPatterns:
        """Count the patterns of ``labels [R, *spatial]`` with values in 0..classes-1.

        Raises:
            TypeError: floating-point labels. ValueError: no rater, no voxels, labels out of range, a ``rater_mask``
                that does not fit, or more than 2^63 possible patterns.
        """
        present = _check(labels, rater_mask, classes, name)
        raters, planes = labels.shape[0], labels.reshape(labels.shape[0], -1)
        codes = torch.zeros(planes.shape[1], dtype=torch.int64, device=labels.device)
        for r in np.flatnonzero(present):
            codes += planes[int(r)].to(torch.int64) * classes ** int(r)
        if classes**raters <= _DENSE:
            found = torch.bincount(codes, minlength=classes**raters)
            patterns = found.nonzero().squeeze(1)
            index = torch.zeros_like(found).index_copy_(0, patterns, torch.arange(len(patterns), device=codes.device))
            index, counts = index[codes], found[patterns]
        else:
            patterns, index, counts = torch.unique(codes, return_inverse=True, return_counts=True)
        digits = patterns.cpu().numpy()[:, None] // classes ** np.arange(raters, dtype=np.int64) % classes
        return cls(digits, counts.cpu().numpy().astype(float), present, classes, index, tuple(labels.shape[1:]))

    @property
    def one_hot(self) -> Floats:
        """float64 ``[P, R, C]``: 1 where rater r says c; all 0 for absent raters."""
        said = self.labels[:, :, None] == np.arange(self.classes)
        return (said & self.present[:, None]).astype(np.float64)

    def vote_shares(self) -> Floats:
        """float64 ``[P, C]``: share of the raters present who say c."""
        return np.asarray(self.one_hot.sum(1) / self.present.sum())

    def likelihood(self, confusion: Floats) -> Floats:
        """Log likelihood of each pattern given each true class, ``[P, C]``; -inf where impossible.

        Args:
            confusion: ``[R, C, L]``, P(rater says l | truth is c).
        """
        with np.errstate(divide="ignore"):
            logs = np.log(confusion)
        total = np.zeros((len(self.counts), confusion.shape[1]))
        for r in np.flatnonzero(self.present):
            total += logs[r][:, self.labels[:, r]].T
        return total

    def confusion(self, posterior: Floats) -> Floats:
        """``[R, C, L]``: of the voxels of class c, weighted by the posterior ``[P, C]``, the share that r calls l.

        NaN for absent raters and for classes without any weight.
        """
        weighted = self.counts[:, None] * posterior
        said = np.einsum("pc,prl->rcl", weighted, self.one_hot)
        whole = np.broadcast_to(weighted.sum(0)[None, :, None], said.shape)
        shares = np.divide(said, whole, out=np.full(said.shape, np.nan), where=whole > 0)
        shares[~self.present] = np.nan
        return shares

    def spread(self, values: npt.NDArray[np.generic], dtype: torch.dtype) -> Tensor:
        """One value per pattern, or ``[P, C]``, as a volume ``[*spatial]`` or ``[C, *spatial]``."""
        table = torch.from_numpy(np.ascontiguousarray(values.T)).to(self.index.device, dtype)
        return table[..., self.index].reshape(*table.shape[:-1], *self.spatial)


def posterior(prior: Floats, likelihood: Floats) -> Floats:
    """``prior_c exp(likelihood_pc)``, normalized over classes; 0 everywhere for a pattern that is impossible."""
    with np.errstate(divide="ignore"):
        joint = np.log(prior) + likelihood
    joint -= np.maximum(joint.max(1, keepdims=True), -np.finfo(float).max)
    weights = np.exp(joint)
    return np.asarray(weights / np.maximum(weights.sum(1, keepdims=True), np.finfo(float).tiny))


def _check(labels: Tensor, rater_mask: Tensor | None, classes: int, name: str) -> Bools:
    check_stack(labels, 0, "labels")
    if labels.ndim < 2 or labels.numel() == 0 or classes < 2 or classes ** len(labels) > 2**63 - 1:
        raise ValueError(
            f"{name}: labels must be [R, *spatial] with voxels, classes at least 2 and classes^R below 2^63. Got shape "
            f"{tuple(labels.shape)} and {classes} classes."
        )
    present = np.ones(len(labels), bool) if rater_mask is None else check_mask(rater_mask, labels, 0).cpu().numpy()
    for r in np.flatnonzero(present):
        low, high = (int(bound) for bound in torch.aminmax(labels[int(r)].to(torch.int64)))
        if low < 0 or high >= classes:
            raise ValueError(f"{name}: labels must be in 0..{classes - 1}. Got {low} to {high} for rater {r}.")
    return present
