# SPDX-License-Identifier: Apache-2.0
"""Whole jobs."""

from monai_multirater.studies.comparison import compare_objectives, method_overlays, reference_of
from monai_multirater.studies.runs import Run, Trial, TunedOption, run_once
from monai_multirater.studies.tables import differences, settings_table, tabulate, write_tables

__all__ = [
    "Run",
    "Trial",
    "TunedOption",
    "compare_objectives",
    "differences",
    "method_overlays",
    "reference_of",
    "run_once",
    "settings_table",
    "tabulate",
    "write_tables",
]
