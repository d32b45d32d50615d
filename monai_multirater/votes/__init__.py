# SPDX-License-Identifier: Apache-2.0
"""Votes of several raters: counts, pattern codes and the mergeable table of pattern counts.

The ratings of one case are a ``[R, *spatial]`` tensor of zeros and ones, one plane per rater; a batch is
``[B, R, *spatial]`` with ``rater_mask [B, R]`` (True = this rater marked this case). Whatever the plane of an
absent rater holds is ignored. Nothing here makes a floating-point copy of the stack.
"""

from monai_multirater.votes.counting import check_ratings, class_ratings, count_votes, encode_votes
from monai_multirater.votes.table import VoteTable, vote_tables_by_class

__all__ = ["VoteTable", "check_ratings", "class_ratings", "count_votes", "encode_votes", "vote_tables_by_class"]
