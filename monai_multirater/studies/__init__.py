# SPDX-License-Identifier: Apache-2.0
"""Whole jobs."""

from monai_multirater.studies.agreement import AgreementStudy, agreement_from_pairs, agreement_study
from monai_multirater.studies.comparison import compare_objectives
from monai_multirater.studies.fusing import FusingSummary, fuse_manifest, read_options
from monai_multirater.studies.methods import METHODS, default_tuning, method_overlays, reference_of, tuned_options
from monai_multirater.studies.ranks import Ranks
from monai_multirater.studies.raters import rater_table
from monai_multirater.studies.report import write_report
from monai_multirater.studies.runs import Run, Trial, TunedOption, run_once
from monai_multirater.studies.tables import differences, settings_table, tabulate, write_tables

__all__ = [
    "METHODS",
    "AgreementStudy",
    "FusingSummary",
    "Ranks",
    "Run",
    "Trial",
    "TunedOption",
    "agreement_from_pairs",
    "agreement_study",
    "compare_objectives",
    "default_tuning",
    "differences",
    "fuse_manifest",
    "method_overlays",
    "rater_table",
    "read_options",
    "reference_of",
    "run_once",
    "settings_table",
    "tabulate",
    "tuned_options",
    "write_report",
    "write_tables",
]
