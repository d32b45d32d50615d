# SPDX-License-Identifier: Apache-2.0
"""Transforms for ratings of several raters: array form, and dictionary form with the suffix ``d``."""

from monai_multirater.transforms.agreement import AGREEMENT_SCORES, AgreementScore, AgreementScored
from monai_multirater.transforms.calibrate import CalibrateProbability, CalibrateProbabilityd
from monai_multirater.transforms.consensus import (
    OrdinalConsensus,
    OrdinalConsensusd,
    SoftConsensus,
    SoftConsensusd,
)
from monai_multirater.transforms.foreground import OrdinalToForeground, OrdinalToForegroundd
from monai_multirater.transforms.fuse import FuseRaters, FuseRatersd
from monai_multirater.transforms.load_sample import LoadImageRatersd
from monai_multirater.transforms.maps import LevelMapsd, OrdinalToLevelsd
from monai_multirater.transforms.mask_files import RaterMask, read_rater_mask
from monai_multirater.transforms.pad import PadRaters, PadRatersd
from monai_multirater.transforms.save import SaveMaps, SaveMapsd
from monai_multirater.transforms.select import RandSelectRater, RandSelectRaterd, SelectRater, SelectRaterd
from monai_multirater.transforms.stack import LoadRaters, LoadRatersd, StackRaters, StackRatersd
from monai_multirater.transforms.targets import check_target

__all__ = [
    "AGREEMENT_SCORES",
    "AgreementScore",
    "AgreementScored",
    "CalibrateProbability",
    "CalibrateProbabilityd",
    "FuseRaters",
    "FuseRatersd",
    "LevelMapsd",
    "LoadImageRatersd",
    "LoadRaters",
    "LoadRatersd",
    "OrdinalConsensus",
    "OrdinalConsensusd",
    "OrdinalToForeground",
    "OrdinalToForegroundd",
    "OrdinalToLevelsd",
    "PadRaters",
    "PadRatersd",
    "RandSelectRater",
    "RandSelectRaterd",
    "RaterMask",
    "SaveMaps",
    "SaveMapsd",
    "SelectRater",
    "SelectRaterd",
    "SoftConsensus",
    "SoftConsensusd",
    "StackRaters",
    "StackRatersd",
    "check_target",
    "read_rater_mask",
]
