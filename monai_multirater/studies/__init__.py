# SPDX-License-Identifier: Apache-2.0
"""Whole jobs."""

from monai_multirater.studies.objectives import Run, compare_objectives, run_once, tabulate

__all__ = ["Run", "compare_objectives", "run_once", "tabulate"]
