# SPDX-License-Identifier: Apache-2.0
"""Whole jobs."""

from monai_multirater.studies.objectives import (
    Run,
    compare_objectives,
    method_overlays,
    run_once,
    tabulate,
    write_tables,
)

__all__ = ["Run", "compare_objectives", "method_overlays", "run_once", "tabulate", "write_tables"]
