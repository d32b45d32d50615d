# SPDX-License-Identifier: Apache-2.0
"""Scores: how well a distribution over levels predicted the votes, per voxel, lower is better.

All have one interface: ``score(probs, votes, *, n_raters=None, missing="thin", log=False)`` with level
probabilities ``[B, R + 1, *spatial]`` (log-probabilities with ``log=True``, the stable way), votes ``[B, 1,
*spatial]`` in 0..n_raters, and values ``[B, 1, *spatial]``. Items with r < R raters present are scored on the
r + 1 counts that their raters could give, after exact thinning (``missing="thin"``), or on the nearest of the
R + 1 levels (``"nearest"``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from monai_multirater.ordinal.distribution import LevelDistribution
from monai_multirater.ordinal.encoding import cumulative_targets, score_by_count
from monai_multirater.ordinal.foreground import majority_cuts

__all__ = [
    "SCORES",
    "Score",
    "earth_mover_score",
    "level_cross_entropy",
    "majority_cross_entropy",
    "ranked_logarithmic_score",
    "ranked_probability_score",
    "soft_cross_entropy",
    "unimodality_penalty",
]


def _rps(dist: LevelDistribution, votes: Tensor, raters: int, *, normalize: bool = True) -> Tensor:
    error = dist.below - (~cumulative_targets(votes, raters)).to(dist.below.dtype)
    total = error.square().sum(1, keepdim=True)
    return total / raters if normalize else total


def _ranked_log(dist: LevelDistribution, votes: Tensor, raters: int, *, normalize: bool = True) -> Tensor:
    total = -dist.log_sides(cumulative_targets(votes, raters)).sum(1, keepdim=True)
    return total / raters if normalize else total


def _level_ce(dist: LevelDistribution, votes: Tensor, raters: int) -> Tensor:
    return -dist.log_level_at(votes)


def _earth_mover(dist: LevelDistribution, votes: Tensor, raters: int, *, exponent: float = 2.0) -> Tensor:
    error = dist.below - (~cumulative_targets(votes, raters)).to(dist.below.dtype)
    power = error.square() if exponent == 2 else error.abs().pow(exponent)
    return power.sum(1, keepdim=True) / (raters + 1)


def _unimodality(dist: LevelDistribution, votes: Tensor, raters: int, *, margin: float = 0.05) -> Tensor:
    step = dist.levels.diff(dim=1)
    rising = cumulative_targets(votes, raters)  # k < votes: the step from k to k + 1 should go up
    return torch.relu(torch.where(rising, -step, step) + margin).sum(1, keepdim=True)


def _majority_ce(dist: LevelDistribution, votes: Tensor, raters: int, *, ties: str = "background") -> Tensor:
    cuts = majority_cuts(raters, ties)
    below, above = (side[:, list(cuts)] for side in dist.log_cuts)
    if len(cuts) == 1:
        return -torch.where(votes > cuts[0], above, below)
    yes, no = (torch.logsumexp(side, 1, keepdim=True) - 0.6931471805599453 for side in (above, below))
    label = ((votes > cuts[0]).to(yes.dtype) + (votes > cuts[1]).to(yes.dtype)) / 2
    return -(label * yes + (1 - label) * no)


def _soft_ce(dist: LevelDistribution, votes: Tensor, raters: int) -> Tensor:
    no, yes = (torch.logsumexp(side, 1, keepdim=True) - math.log(raters) for side in dist.log_cuts)
    share = votes / raters
    return -(torch.where(votes > 0, share * yes, 0.0) + torch.where(votes < raters, (1 - share) * no, 0.0))


@dataclass(frozen=True)
class Score:
    """A score of a :class:`LevelDistribution`.

    Attributes:
        name: its key in ``SCORES``.
        function: ``function(distribution, votes, raters, **options) -> [B, 1, *spatial]``.
        reads_levels: reads logarithms of single levels, hence needs a family without empty levels.
        proper: its expectation over votes drawn from q is smallest, and only there, for the prediction q.
    """

    name: str
    function: Callable[..., Tensor]
    reads_levels: bool
    proper: bool


SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("rps", _rps, reads_levels=False, proper=True),
        Score("ranked_log", _ranked_log, reads_levels=False, proper=True),
        Score("level_ce", _level_ce, reads_levels=True, proper=True),
        Score("earth_mover", _earth_mover, reads_levels=False, proper=True),  # for its exponent 2
        Score("unimodality", _unimodality, reads_levels=False, proper=False),
        Score("majority_ce", _majority_ce, reads_levels=False, proper=False),
        Score("soft_ce", _soft_ce, reads_levels=False, proper=False),
    )
}


def _score_levels(
    name: str, probs: Tensor, votes: Tensor, n_raters: Any, missing: str, log: bool, **options: Any
) -> Tensor:
    raters = probs.shape[1] - 1
    if raters < 1 or votes.shape != (probs.shape[0], 1, *probs.shape[2:]):
        raise ValueError(
            f"{name}: votes must have shape {(probs.shape[0], 1, *probs.shape[2:])} for at least 2 levels of "
            f"probs {tuple(probs.shape)}. Got {tuple(votes.shape)}."
        )
    probs = probs.as_subclass(Tensor)
    probs = probs.to(torch.promote_types(probs.dtype, torch.float32))

    def score(predictions: Tensor, targets: Tensor, present: int) -> Tensor:
        dist = LevelDistribution.from_levels(predictions, log=log)
        thinned = dist if present == raters else dist.thin(present)
        return SCORES[name].function(thinned, targets, present, **options)

    return score_by_count(score, probs, votes.as_subclass(Tensor), raters=raters, n_raters=n_raters, missing=missing)


def ranked_probability_score(
    probs: Tensor,
    votes: Tensor,
    *,
    n_raters: int | Tensor | None = None,
    normalize: bool = True,
    missing: str = "thin",
    log: bool = False,
) -> Tensor:
    """Ranked probability score, ``sum_{k<R} (P(level <= k) - 1[votes <= k])^2``.

    Args:
        probs: ``[B, R + 1, *spatial]`` level probabilities.
        votes: ``[B, 1, *spatial]`` integers.
        n_raters: raters present, one number or ``[B]``; R by default.
        normalize: divide by the number of cut points, so that scores compare across numbers of raters; in [0,
            1].
        missing: ``"thin"`` or ``"nearest"``, see the module.
        log: ``probs`` are logarithms.

    Returns:
        ``[B, 1, *spatial]``.

    Strictly proper. With equal mass on the observed level and equal expected distance from it, it prefers
    errors on both sides to errors on one side: for votes 1 of 3, (.2, .6, .2, 0) scores .08 and (0, .6, .4,
    0) scores .16 before division. Galdran 2023 (arXiv:2309.08701) calls this a flaw and squares the sum of
    absolute differences instead, which is ``((R + 1) * earth_mover_score(..., exponent=1))^2``.

    Source: Epstein 1969, doi:10.1175/1520-0450(1969)008<0985:ASSFPF>2.0.CO;2.
    """
    return _score_levels("rps", probs, votes, n_raters, missing, log, normalize=normalize)


def ranked_logarithmic_score(
    probs: Tensor,
    votes: Tensor,
    *,
    n_raters: int | Tensor | None = None,
    normalize: bool = True,
    missing: str = "thin",
    log: bool = False,
) -> Tensor:
    """Ranked logarithmic score: binary cross-entropy of the cumulative probability at each of the R cut
    points.

    ``-sum_{k<R} log P(level is on the side of the votes at cut point k)``, divided by R with ``normalize``.
    Strictly proper, infinite when a side that occurs had probability 0. Arguments and shapes as
    :func:`ranked_probability_score`.

    Source: Toedter, Ahrens 2012 (the ignorance version of the ranked score), doi:10.1175/MWR-D-11-00266.1.
    """
    return _score_levels("ranked_log", probs, votes, n_raters, missing, log, normalize=normalize)


def level_cross_entropy(
    probs: Tensor,
    votes: Tensor,
    *,
    n_raters: int | Tensor | None = None,
    missing: str = "thin",
    log: bool = False,
) -> Tensor:
    """Logarithmic score of the level, ``-log P(level = votes)``: strictly proper, blind to order."""
    return _score_levels("level_ce", probs, votes, n_raters, missing, log)


def earth_mover_score(
    probs: Tensor,
    votes: Tensor,
    *,
    exponent: float = 2.0,
    n_raters: int | Tensor | None = None,
    missing: str = "thin",
    log: bool = False,
) -> Tensor:
    """Earth mover's distance to the votes, ``sum_{k<R} |P(level <= k) - 1[votes <= k]|^exponent / (R + 1)``.

    ``exponent=2`` is the squared earth mover's loss of Hou et al. 2016 (arXiv:1611.05916): the ranked
    probability score times ``R / (R + 1)``, strictly proper. ``exponent=1`` is the expected distance to the
    votes: it is smallest for all mass on the median and therefore no proper score.
    """
    return _score_levels("earth_mover", probs, votes, n_raters, missing, log, exponent=exponent)


def unimodality_penalty(
    probs: Tensor,
    votes: Tensor,
    *,
    margin: float = 0.05,
    n_raters: int | Tensor | None = None,
    missing: str = "thin",
    log: bool = False,
) -> Tensor:
    """Penalty on level probabilities that do not rise to the votes and fall after them.

    ``sum_{k<votes} relu(p_k - p_{k+1} + margin) + sum_{k>=votes} relu(p_{k+1} - p_k + margin)``. Not proper:
    it is a shape prior to add to a score (the CO2 loss of Albuquerque et al. 2021, doi:10.7717/peerj-cs.457).
    """
    return _score_levels("unimodality", probs, votes, n_raters, missing, log, margin=margin)


def majority_cross_entropy(
    probs: Tensor,
    votes: Tensor,
    *,
    ties: str = "background",
    n_raters: int | Tensor | None = None,
    missing: str = "thin",
    log: bool = False,
) -> Tensor:
    """Binary cross-entropy of the majority probability against the majority label.

    The majority probability is ``foreground_probability(probs, "majority", ties=ties)``, the label that of
    the raters present (0.5 at ties with ``ties="half"``). Proper for the majority, silent on everything else.
    """
    return _score_levels("majority_ce", probs, votes, n_raters, missing, log, ties=ties)


def soft_cross_entropy(
    probs: Tensor,
    votes: Tensor,
    *,
    n_raters: int | Tensor | None = None,
    missing: str = "thin",
    log: bool = False,
) -> Tensor:
    """Binary cross-entropy of the expected foreground probability against the fraction of votes.

    ``-(v log m + (1 - v) log(1 - m))`` with ``m = foreground_probability(probs, "expected")`` and v the votes divided
    by the raters present: soft-label training for a distribution over levels. Proper for the mean vote, silent on the
    rest of the distribution; add it to a ranked score.
    """
    return _score_levels("soft_ce", probs, votes, n_raters, missing, log)
