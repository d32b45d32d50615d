# SPDX-License-Identifier: Apache-2.0
"""Foreground maps, labels and uncertainty against sums in Python and scipy."""

import pytest
import scipy.stats
import torch

from monai_multirater.ordinal import foreground_probability, level_entropy, majority_labels, vote_variance

LEVELS = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25])  # four raters


@pytest.mark.parametrize(("ties", "expected"), [("background", 0.4), ("foreground", 0.7), ("half", 0.55)])
def test_majority_of_four_raters_by_tie_rule(ties, expected):
    assert foreground_probability(LEVELS.view(1, 5, 1), ties=ties).item() == pytest.approx(expected)


@pytest.mark.parametrize("ties", ["background", "foreground", "half"])
def test_an_odd_number_of_raters_has_no_tie(ties):
    probs = torch.tensor([0.1, 0.2, 0.3, 0.4]).view(1, 4, 1)
    assert foreground_probability(probs, ties=ties).item() == pytest.approx(0.7)
    assert majority_labels(torch.tensor([[[1, 2]]]), 3, ties=ties).flatten().tolist() == [0, 1]


def test_expected_is_the_mean_vote():
    assert foreground_probability(LEVELS.view(1, 5, 1), "expected").item() == pytest.approx(2.25 / 4)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)], ids=["2d", "3d"])
def test_level_axis_first_equals_batch_of_one(shape):
    probs = torch.rand(6, *shape, generator=torch.Generator().manual_seed(0)).softmax(0)
    for function in (foreground_probability, level_entropy, vote_variance):
        assert function(probs, dim=0).shape == (1, *shape)
        torch.testing.assert_close(function(probs, dim=0), function(probs[None])[0])


@pytest.mark.parametrize(
    ("ties", "expected"),
    [("background", [0, 0, 1, 0, 1]), ("foreground", [0, 1, 1, 0, 1]), ("half", [0, 0.5, 1, 0, 1])],
)
def test_labels_of_four_raters_and_of_one_by_tie_rule(ties, expected):
    four, one = torch.tensor([[[1, 2, 3]]]), torch.tensor([[[0, 1]]])
    labels = [majority_labels(four, 4, ties=ties), majority_labels(one, torch.tensor([1]), ties=ties)]
    assert torch.cat(labels, 2).flatten().tolist() == expected


def test_entropy_and_variance_equal_scipy_and_vanish_for_sure_levels():
    probs = LEVELS.view(1, 5, 1).double()
    assert level_entropy(probs).item() == pytest.approx(scipy.stats.entropy(LEVELS.numpy()), rel=1e-6)
    expected = scipy.stats.rv_discrete(
        values=([0, 1, 2, 3, 4], (LEVELS.double() / LEVELS.double().sum()).numpy())
    ).var()
    assert vote_variance(probs).item() == pytest.approx(expected / 16, rel=1e-6)
    sure = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1)
    assert level_entropy(sure).item() == 0
    assert vote_variance(sure).item() == 0


def test_bad_rules_are_named():
    with pytest.raises(ValueError, match="rule"):
        foreground_probability(LEVELS.view(1, 5, 1), "mean")
    with pytest.raises(ValueError, match="ties"):
        majority_labels(torch.zeros(1, 1, 1, dtype=torch.int64), 2, ties="random")
    with pytest.raises(ValueError, match="at least 2 levels"):
        level_entropy(torch.ones(1, 1, 3))
