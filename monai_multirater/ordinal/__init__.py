# SPDX-License-Identifier: Apache-2.0
"""Ordinal consensus: families turn outputs into level probabilities, scores compare these with votes."""

from monai_multirater.ordinal.beta_binomial import beta_binomial_log_levels, beta_binomial_log_likelihood
from monai_multirater.ordinal.distribution import LevelDistribution
from monai_multirater.ordinal.encoding import (
    cumulative_targets,
    nearest_levels,
    ordinal_consensus,
    thin_levels,
    thinning_matrix,
)
from monai_multirater.ordinal.families import FAMILIES, OrdinalFamily, get_family, level_probabilities
from monai_multirater.ordinal.foreground import (
    foreground_probability,
    level_entropy,
    majority_labels,
    vote_variance,
)
from monai_multirater.ordinal.scores import (
    SCORES,
    earth_mover_score,
    level_cross_entropy,
    majority_cross_entropy,
    ranked_logarithmic_score,
    ranked_probability_score,
    soft_cross_entropy,
    unimodality_penalty,
)

__all__ = [
    "FAMILIES",
    "SCORES",
    "LevelDistribution",
    "OrdinalFamily",
    "beta_binomial_log_levels",
    "beta_binomial_log_likelihood",
    "cumulative_targets",
    "earth_mover_score",
    "foreground_probability",
    "get_family",
    "level_cross_entropy",
    "level_entropy",
    "level_probabilities",
    "majority_cross_entropy",
    "majority_labels",
    "nearest_levels",
    "ordinal_consensus",
    "ranked_logarithmic_score",
    "ranked_probability_score",
    "soft_cross_entropy",
    "thin_levels",
    "thinning_matrix",
    "unimodality_penalty",
    "vote_variance",
]
