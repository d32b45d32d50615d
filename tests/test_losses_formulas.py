# SPDX-License-Identifier: Apache-2.0
"""Every loss against its published formula, written out in float64 with torch or scipy."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch.nn.functional import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    logsigmoid,
    one_hot,
)

from monai_multirater.losses import (
    BetaBinomialLoss,
    ConsensusLoss,
    CORALLoss,
    CORNLoss,
    CumulativeLinkLoss,
    EarthMoverLoss,
    LevelCrossEntropyLoss,
    MajorityVoteLoss,
    RankedLogarithmicLoss,
    RankedProbabilityScoreLoss,
    RPSBCELoss,
    SoftVoteLoss,
    UnimodalLoss,
)
from monai_multirater.ordinal import unimodality_penalty

RATERS = 5


@pytest.fixture
def case():
    """Level logits and votes, float64."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, RATERS + 1, 4, 6, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, RATERS + 1, (2, 1, 4, 6), generator=generator)


def cumulative(logits, votes):
    predicted = logits.softmax(1).cumsum(1)[:, :-1]
    observed = one_hot(votes[:, 0], RATERS + 1).movedim(-1, 1).cumsum(1)[:, :-1].double()
    return predicted, observed


def test_rps_is_the_mean_over_cut_points_or_their_sum(case):
    predicted, observed = cumulative(*case)
    total = (predicted - observed).square().sum(1).mean()
    torch.testing.assert_close(RankedProbabilityScoreLoss(RATERS)(*case), total / RATERS)
    torch.testing.assert_close(RankedProbabilityScoreLoss(RATERS, normalize=False)(*case), total)
    torch.testing.assert_close(EarthMoverLoss(RATERS)(*case), total / (RATERS + 1))


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.5])
def test_rps_bce_is_the_published_sum(case, weight):
    logits, votes = case
    predicted, observed = cumulative(logits, votes)
    confidence = logits.softmax(1)[:, RATERS // 2 + 1 :].sum(1)
    bce = binary_cross_entropy(confidence, (votes[:, 0] > RATERS / 2).double())
    expected = bce + weight * (predicted - observed).square().mean()
    torch.testing.assert_close(RPSBCELoss(RATERS, lambda_rps=weight)(logits, votes), expected)


@pytest.mark.parametrize("bce_weight", [0.0, 1.0, 0.25])
def test_ranked_logarithmic_is_bce_at_every_cut_point(case, bce_weight):
    logits, votes = case
    predicted, observed = cumulative(logits, votes)
    confidence = logits.softmax(1)[:, RATERS // 2 + 1 :].sum(1)
    bce = binary_cross_entropy(confidence, (votes[:, 0] > RATERS / 2).double())
    expected = binary_cross_entropy(predicted, observed) + bce_weight * bce
    torch.testing.assert_close(RankedLogarithmicLoss(RATERS, bce_weight=bce_weight)(logits, votes), expected)


@pytest.mark.parametrize("weight", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("loss", [RankedProbabilityScoreLoss, RankedLogarithmicLoss])
def test_soft_term_is_bce_of_the_expected_map(case, loss, weight):
    logits, votes = case
    mean = (logits.softmax(1) * torch.arange(RATERS + 1).view(1, -1, 1, 1)).sum(1, keepdim=True) / RATERS
    expected = loss(RATERS)(logits, votes) + weight * binary_cross_entropy(mean, votes.double() / RATERS)
    torch.testing.assert_close(loss(RATERS, soft_weight=weight)(logits, votes), expected)


@pytest.mark.parametrize("ties", ["background", "foreground", "half"])
def test_ties_of_an_even_number_of_raters(ties):
    logits = torch.tensor([0.3, -0.2, 0.9]).double().view(1, 3, 1)
    p = logits.softmax(1).flatten()
    share = {"background": 0.0, "foreground": 1.0, "half": 0.5}[ties]
    confidence, label = p[2] + share * p[1], torch.tensor(share).double()
    loss = RPSBCELoss(2, lambda_rps=0.0, ties=ties)
    torch.testing.assert_close(loss(logits, torch.ones(1, 1, 1).long()), binary_cross_entropy(confidence, label))


def test_level_cross_entropy_and_unimodal(case):
    logits, votes = case
    expected = cross_entropy(logits, votes[:, 0])
    torch.testing.assert_close(LevelCrossEntropyLoss(RATERS)(logits, votes), expected)
    penalty = unimodality_penalty(logits.softmax(1), votes, margin=0.1).mean()
    torch.testing.assert_close(UnimodalLoss(RATERS, weight=2.0, margin=0.1)(logits, votes), expected + 2 * penalty)


def test_coral_is_the_published_sum_of_binary_tasks(case):
    logits, votes = case[0][:, :RATERS], case[1]
    levels = (votes > torch.arange(RATERS).view(1, -1, 1, 1)).double()
    expected = -(logsigmoid(logits) * levels + (logsigmoid(logits) - logits) * (1 - levels)).mean()
    torch.testing.assert_close(CORALLoss(RATERS)(logits, votes), expected)


def test_corn_is_the_published_sum_over_conditional_sets(case):
    logits, votes = case[0][:, :RATERS], case[1]
    total = torch.zeros((), dtype=torch.float64)
    for k in range(RATERS):
        reached = votes[:, 0] >= k
        labels = (votes[:, 0][reached] > k).double()
        total += binary_cross_entropy_with_logits(logits[:, k][reached], labels, reduction="sum")
    torch.testing.assert_close(CORNLoss(RATERS)(logits, votes), total / votes.numel())


@pytest.mark.parametrize(("link", "cdf"), [("logit", scipy.special.expit), ("probit", scipy.stats.norm.cdf)])
def test_cumulative_link_is_the_log_of_a_difference(case, link, cdf):
    values, votes = case[0][:, :RATERS].sort(1, descending=True).values, case[1]
    tails = cdf(values.numpy())
    levels = -np.diff(np.concatenate([np.ones_like(tails[:, :1]), tails, np.zeros_like(tails[:, :1])], 1), axis=1)
    expected = -np.log(np.take_along_axis(levels, votes.numpy(), 1)).mean()
    assert CumulativeLinkLoss(RATERS, link=link)(values, votes).item() == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match="link"):
        CumulativeLinkLoss(RATERS, link="cloglog")


def test_beta_binomial_is_the_scipy_likelihood_for_mixed_rater_counts(case):
    outputs, counts = case[0][:, :2], torch.tensor([5, 2])
    votes = torch.minimum(case[1], counts.view(2, 1, 1, 1))
    mean, nu = scipy.special.expit(outputs[:, :1].numpy()), np.exp(outputs[:, 1:].numpy())
    n = counts.view(2, 1, 1, 1).numpy()
    expected = -scipy.stats.betabinom.logpmf(votes.numpy(), n, mean * nu, (1 - mean) * nu).mean()
    assert BetaBinomialLoss(RATERS)(outputs, votes, n_raters=counts).item() == pytest.approx(expected, rel=1e-8)


def test_baselines_are_binary_cross_entropies(case):
    outputs, votes = case[0][:, :1], case[1]
    soft = binary_cross_entropy_with_logits(outputs, votes.double() / RATERS)
    torch.testing.assert_close(SoftVoteLoss(RATERS)(outputs, votes), soft)
    hard = binary_cross_entropy_with_logits(outputs, (votes > 2).double())
    torch.testing.assert_close(MajorityVoteLoss(RATERS)(outputs, votes), hard)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_consensus_loss_is_the_cross_entropy_with_a_probability(case, dtype):
    outputs, votes = case[0][:, :1].to(dtype), case[1]
    consensus = torch.rand(votes.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    p, q = consensus.double().numpy(), scipy.special.expit(outputs.double().numpy())
    expected = -(p * np.log(q) + (1 - p) * np.log1p(-q)).mean()
    assert ConsensusLoss(RATERS)(outputs, consensus).item() == pytest.approx(expected, rel=1e-6)


def test_consensus_loss_of_vote_fractions_is_the_soft_loss_and_of_labels_the_majority_loss(case):
    outputs, votes = case[0][:, :1], case[1]
    soft, hard = {"consensus": votes.double() / RATERS}, {"consensus": votes > RATERS / 2}
    torch.testing.assert_close(ConsensusLoss(RATERS)(outputs, soft), SoftVoteLoss(RATERS)(outputs, votes))
    torch.testing.assert_close(ConsensusLoss(RATERS)(outputs, hard), MajorityVoteLoss(RATERS)(outputs, votes))


def test_descent_on_ranked_log_finds_the_frequencies_of_the_levels():
    votes = torch.tensor([0] * 3 + [1] * 2 + [3] * 5).view(1, 1, -1)
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    loss = RankedLogarithmicLoss(3)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss(logits.view(1, 4, 1).expand(1, 4, 10), votes)
        value.backward()
        return value

    for _ in range(5):
        optimizer.step(closure)
    expected = torch.tensor([0.3, 0.2, 0.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(logits.detach().softmax(0), expected, atol=2e-3, rtol=0)
