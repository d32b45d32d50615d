# SPDX-License-Identifier: Apache-2.0
"""Functions that return matplotlib figures."""

from monai_multirater.visualize.figures import case_figure, rater_contours, reliability_diagram

__all__ = ["case_figure", "rater_contours", "reliability_diagram"]
