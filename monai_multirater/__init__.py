# SPDX-License-Identifier: Apache-2.0
"""MONAI extension for medical images that several experts annotated.

Import from the rooms: ``monai_multirater.votes``, ``.ordinal``, ``.calibration``, ``.transforms`` and so on.
"""

from monai_multirater._version import __version__

__all__ = ["__version__"]
