# SPDX-License-Identifier: Apache-2.0
"""Fusion: from the ratings of one case to one consensus."""

from monai_multirater.fusion.voting import majority, soft_consensus

__all__ = ["majority", "soft_consensus"]
