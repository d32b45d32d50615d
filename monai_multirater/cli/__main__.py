# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_multirater.cli``."""

from monai_multirater.cli import main

if __name__ == "__main__":
    main()
