# SPDX-License-Identifier: Apache-2.0
"""Agreement: how each rater performs, who is an outlier, whose mask is flipped or copied."""

from monai_multirater.agreement.orientation import (
    DuplicateFinding,
    FlipFinding,
    detect_duplicates,
    detect_flips,
)
from monai_multirater.agreement.outliers import CaseOutlier, OutlierReport, find_outliers
from monai_multirater.agreement.performance import RaterPerformance, rater_performance
from monai_multirater.agreement.rater_table import RaterSummary, RaterTable, Spread

__all__ = [
    "CaseOutlier",
    "DuplicateFinding",
    "FlipFinding",
    "OutlierReport",
    "RaterPerformance",
    "RaterSummary",
    "RaterTable",
    "Spread",
    "detect_duplicates",
    "detect_flips",
    "find_outliers",
    "rater_performance",
]
