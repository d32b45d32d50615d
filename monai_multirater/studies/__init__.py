# SPDX-License-Identifier: Apache-2.0
"""Whole jobs."""

from monai_multirater.studies.comparison import compare_objectives, method_overlays
from monai_multirater.studies.runs import Run, Trial, TunedOption, run_once
from monai_multirater.studies.tables import settings_table, tabulate, write_tables

__all__ = [
    "Run",
    "Trial",
    "TunedOption",
    "compare_objectives",
    "method_overlays",
    "run_once",
    "settings_table",
    "tabulate",
    "write_tables",
]
