# SPDX-License-Identifier: Apache-2.0
"""Functions that return matplotlib figures and show nothing; none of them touches the state of pyplot."""

from monai_multirater.visualize.cases import case_figure, maps_figure, rater_contours
from monai_multirater.visualize.reliability import reliability_diagram, reliability_panels

__all__ = ["case_figure", "maps_figure", "rater_contours", "reliability_diagram", "reliability_panels"]
