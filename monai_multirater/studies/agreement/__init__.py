# SPDX-License-Identifier: Apache-2.0
"""The agreement study of a data set: how much the raters agree, where, why, and what goes with it."""
