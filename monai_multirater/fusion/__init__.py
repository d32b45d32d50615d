# SPDX-License-Identifier: Apache-2.0
"""Fusion: from the ratings of one case, or a batch, to one consensus."""

from monai_multirater.fusion.dawid_skene import DawidSkeneResult, dawid_skene
from monai_multirater.fusion.multilabel import MultiLabelStapleResult, multilabel_staple
from monai_multirater.fusion.registry import FUSIONS, FusionMethod, fuse, fusion_method
from monai_multirater.fusion.results import FusionResult
from monai_multirater.fusion.simple import SimpleResult, simple
from monai_multirater.fusion.smoothing import soft_gaussian, svls
from monai_multirater.fusion.staple import StapleResult, staple
from monai_multirater.fusion.voting import (
    intersection,
    majority,
    random_rater,
    soft_consensus,
    union,
    weighted_vote,
)

__all__ = [
    "FUSIONS",
    "DawidSkeneResult",
    "FusionMethod",
    "FusionResult",
    "MultiLabelStapleResult",
    "SimpleResult",
    "StapleResult",
    "dawid_skene",
    "fuse",
    "fusion_method",
    "intersection",
    "majority",
    "multilabel_staple",
    "random_rater",
    "simple",
    "soft_consensus",
    "soft_gaussian",
    "staple",
    "svls",
    "union",
    "weighted_vote",
]
