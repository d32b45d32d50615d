# SPDX-License-Identifier: Apache-2.0
"""Agreement: how each rater performs, who is an outlier, whose mask is flipped or copied."""

from monai_multirater.agreement.comparison import Comparison, compare, comparison_table
from monai_multirater.agreement.dominance import DominanceResult, dominance_both_ways, stochastic_dominance
from monai_multirater.agreement.effects import MannWhitneyResult, cliffs_delta, cohens_d, holm, mann_whitney
from monai_multirater.agreement.factors import (
    compare_groups,
    compare_levels,
    compare_same_different,
    factor_tests,
)
from monai_multirater.agreement.group import (
    GroupAgreement,
    agreement_volumes,
    conformity_index,
    fleiss_kappa,
    group_agreement,
    krippendorff_alpha,
    vote_entropy,
)
from monai_multirater.agreement.measures import MEASURES, Measure
from monai_multirater.agreement.mixed import MixedModelResult, mixed_model
from monai_multirater.agreement.omnibus import omnibus_tests
from monai_multirater.agreement.orientation import (
    DuplicateFinding,
    FlipFinding,
    detect_duplicates,
    detect_flips,
)
from monai_multirater.agreement.outliers import CaseOutlier, OutlierReport, find_outliers
from monai_multirater.agreement.overlap import (
    PairOverlap,
    mean_pairwise_dice,
    pair_indices,
    pair_overlap,
    pairwise_dice,
    pairwise_iou,
    pairwise_kappa,
    upper_pairs,
)
from monai_multirater.agreement.pair_table import level_means
from monai_multirater.agreement.performance import RaterPerformance, rater_performance
from monai_multirater.agreement.permutation import PermutationResult, permutation_test
from monai_multirater.agreement.planning import plan_study, required_cases
from monai_multirater.agreement.rater_table import RaterSummary, RaterTable, Spread
from monai_multirater.agreement.surface import (
    PairSurfaces,
    pair_surfaces,
    pairwise_average_surface_distance,
    pairwise_hausdorff,
    pairwise_surface_dice,
)
from monai_multirater.agreement.within_cases import within_case_test

__all__ = [
    "MEASURES",
    "CaseOutlier",
    "Comparison",
    "DominanceResult",
    "DuplicateFinding",
    "FlipFinding",
    "GroupAgreement",
    "MannWhitneyResult",
    "Measure",
    "MixedModelResult",
    "OutlierReport",
    "PairOverlap",
    "PairSurfaces",
    "PermutationResult",
    "RaterPerformance",
    "RaterSummary",
    "RaterTable",
    "Spread",
    "agreement_volumes",
    "cliffs_delta",
    "cohens_d",
    "compare",
    "compare_groups",
    "compare_levels",
    "compare_same_different",
    "comparison_table",
    "conformity_index",
    "detect_duplicates",
    "detect_flips",
    "dominance_both_ways",
    "factor_tests",
    "find_outliers",
    "fleiss_kappa",
    "group_agreement",
    "holm",
    "krippendorff_alpha",
    "level_means",
    "mann_whitney",
    "mean_pairwise_dice",
    "mixed_model",
    "omnibus_tests",
    "pair_indices",
    "pair_overlap",
    "pair_surfaces",
    "pairwise_average_surface_distance",
    "pairwise_dice",
    "pairwise_hausdorff",
    "pairwise_iou",
    "pairwise_kappa",
    "pairwise_surface_dice",
    "permutation_test",
    "plan_study",
    "rater_performance",
    "required_cases",
    "stochastic_dominance",
    "upper_pairs",
    "vote_entropy",
    "within_case_test",
]
