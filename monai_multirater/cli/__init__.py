# SPDX-License-Identifier: Apache-2.0
"""The command ``monai-multirater``: parse, call, print."""

from monai_multirater.cli import agreement, compare, data, fuse
from monai_multirater.cli.app import app

__all__ = ["agreement", "app", "compare", "data", "fuse", "main"]


def main() -> None:
    """Entry point of the command."""
    app()
