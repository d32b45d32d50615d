# SPDX-License-Identifier: Apache-2.0
"""What every objective shares: forms of the target, missing raters, reduction, precision, errors."""

import pytest
import torch
from monai.data import MetaTensor

from monai_multirater.losses import (
    OBJECTIVES,
    OrdinalLoss,
    RPSBCELoss,
    make_loss,
    objective_family,
    objective_foreground,
)
from monai_multirater.ordinal import get_family

SHAPES = [pytest.param((4, 5), id="2d"), pytest.param((2, 3, 4), id="3d")]
VOTE_OBJECTIVES = [name for name in OBJECTIVES if name != "consensus"]  # which reads a fused probability instead
MASK = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0], [1, 0, 0, 0]]).bool()


def random_batch(objective, raters=4, shape=(4, 5), *, batch=3, dtype=torch.float32):
    """Outputs for the objective and ratings ``[B, R, *]``."""
    generator = torch.Generator().manual_seed(0)
    channels = get_family(objective_family(objective)).channels(raters)
    outputs = torch.randn(batch, channels, *shape, generator=generator).to(dtype)
    if objective.startswith("cumulative"):
        outputs = outputs.sort(1, descending=True).values
    return outputs, torch.randint(0, 2, (batch, raters, *shape), generator=generator, dtype=torch.uint8)


def votes_of(ratings, mask):
    return (ratings * mask.view(*mask.shape, *[1] * (ratings.ndim - 2))).sum(1, keepdim=True), mask.sum(1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("objective", VOTE_OBJECTIVES)
def test_all_forms_of_the_target_agree(objective, shape):
    outputs, ratings = random_batch(objective, shape=shape)
    votes, counts = votes_of(ratings, MASK)
    garbage = torch.where(MASK.view(3, 4, *[1] * len(shape)), ratings, 1)
    loss = make_loss(objective, raters=4)
    expected = loss(outputs, votes, n_raters=counts)
    assert expected.isfinite()
    for value in (
        loss(outputs, votes.float(), n_raters=counts),
        loss(outputs, garbage, MASK),
        loss(outputs, votes, MASK),
        loss(outputs, {"votes": votes, "n_raters": counts, "image": None}),
        loss(outputs, {"ratings": garbage, "rater_mask": MASK}),
        loss(MetaTensor(outputs), {"votes": MetaTensor(votes.to(torch.uint8)), "n_raters": counts[:, None]}),
    ):
        assert type(value) is torch.Tensor
        torch.testing.assert_close(value, expected)
    full = loss(outputs, ratings)
    torch.testing.assert_close(full, loss(outputs, ratings.sum(1, keepdim=True)))


@pytest.mark.parametrize("objective", VOTE_OBJECTIVES)
def test_with_one_rater_ratings_are_votes(objective):
    outputs, ratings = random_batch(objective, 1)
    loss = make_loss(objective, raters=1)
    expected = loss(outputs, {"votes": ratings})
    torch.testing.assert_close(loss(outputs, ratings), expected)
    torch.testing.assert_close(loss(outputs, {"ratings": ratings}), expected)
    torch.testing.assert_close(loss(outputs, ratings, torch.ones(3, 1).bool()), expected)


@pytest.mark.parametrize("objective", VOTE_OBJECTIVES)
def test_a_batch_of_mixed_rater_counts_equals_its_items(objective):
    outputs, ratings = random_batch(objective)
    loss = make_loss(objective, raters=4, reduction="none")
    values = loss(outputs, ratings, MASK)
    assert values.shape == (3, 1, 4, 5)
    for item in range(3):
        alone = loss(outputs[item : item + 1], ratings[item : item + 1], MASK[item : item + 1])
        torch.testing.assert_close(values[item : item + 1], alone)


@pytest.mark.parametrize("objective", VOTE_OBJECTIVES)
def test_permuting_raters_changes_nothing(objective):
    outputs, ratings = random_batch(objective)
    loss, order = make_loss(objective, raters=4), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(loss(outputs, ratings[:, order], MASK[:, order]), loss(outputs, ratings, MASK))


@pytest.mark.parametrize("objective", VOTE_OBJECTIVES)
def test_reductions(objective):
    outputs, ratings = random_batch(objective)
    mean, total, values = (
        make_loss(objective, raters=4, reduction=name)(outputs, ratings, MASK) for name in ("mean", "sum", "none")
    )
    torch.testing.assert_close(mean, values.mean())
    torch.testing.assert_close(total, values.sum())
    with pytest.raises(ValueError, match="reduction must be one of"):
        make_loss(objective, raters=4, reduction="average")


@pytest.mark.parametrize("objective", VOTE_OBJECTIVES)
def test_gradients_with_missing_raters(objective):
    outputs, ratings = random_batch(objective, shape=(2,), dtype=torch.float64)
    loss = make_loss(objective, raters=4)
    assert torch.autograd.gradcheck(lambda x: loss(x, ratings, MASK), (outputs.requires_grad_(),))


@pytest.mark.parametrize("objective", VOTE_OBJECTIVES)
def test_autocast_computes_in_single_precision(objective):
    outputs, ratings = random_batch(objective)
    loss = make_loss(objective, raters=4)
    half, single = (x.requires_grad_() for x in (outputs.bfloat16(), outputs.bfloat16().float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(half, ratings, MASK)
    value.backward()
    expected = loss(single, ratings, MASK)
    expected.backward()
    assert value.dtype == torch.float32
    assert half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(half.grad, single.grad.bfloat16())


@pytest.mark.parametrize("objective", VOTE_OBJECTIVES)
def test_scaled_half_precision_gradients_do_not_underflow(objective):
    outputs, ratings = random_batch(objective, shape=(64, 64))
    half, single = outputs.half().requires_grad_(), outputs.half().float().requires_grad_()
    loss = make_loss(objective, raters=4)
    (loss(half, ratings) * 2.0**14).backward()
    loss(single, ratings).backward()
    torch.testing.assert_close(half.grad.float() / 2.0**14, single.grad, rtol=2e-3, atol=1e-9)


@pytest.mark.parametrize("objective", VOTE_OBJECTIVES)
def test_confident_wrong_outputs_keep_a_finite_loss_and_gradient(objective):
    outputs, ratings = random_batch(objective)
    outputs = (200 * outputs).requires_grad_()
    value = make_loss(objective, raters=4)(outputs, ratings, MASK)
    value.backward()
    assert value.isfinite()
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize("missing", ["thin", "nearest"])
def test_missing_rule_matters_only_where_raters_are_missing(missing):
    outputs, ratings = random_batch("ranked_log")
    default, other = OrdinalLoss(4), OrdinalLoss(4, missing=missing)
    torch.testing.assert_close(other(outputs, ratings), default(outputs, ratings))
    same = torch.allclose(other(outputs, ratings, MASK), default(outputs, ratings, MASK))
    assert same == (missing == "thin")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("objective", VOTE_OBJECTIVES)
def test_cuda_equals_cpu(objective):
    outputs, ratings = random_batch(objective, shape=(16, 16))
    results = []
    for device in ("cpu", "cuda"):
        leaf = outputs.to(device).requires_grad_()
        value = make_loss(objective, raters=4)(leaf, ratings.to(device), MASK.to(device))
        value.backward()
        results.append((value.detach().cpu(), leaf.grad.cpu()))
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize(
    ("outputs", "target", "extra", "error", "words"),
    [
        pytest.param((2, 4, 3), (2, 1, 3), {}, ValueError, "5 channels", id="channels"),
        pytest.param((2, 5, 3), (2, 2, 3), {}, ValueError, "votes .B, 1, .spatial. or ratings .B, 4", id="planes"),
        pytest.param((2, 5, 3), (2, 1, 4), {}, ValueError, "Got shape .2, 1, 4", id="spatial"),
        pytest.param((2, 5, 3), (1, 1, 3), {}, ValueError, "Got shape .1, 1, 3", id="batch"),
        pytest.param((2, 5, 0), (2, 1, 0), {}, ValueError, "must have voxels", id="empty"),
        pytest.param((2, 5, 3), (2, 1, 3), {"n_raters": 0}, ValueError, "n_raters must be", id="no-rater"),
        pytest.param((2, 5, 3), (2, 1, 3), {"n_raters": 5}, ValueError, "n_raters must be", id="too-many"),
        pytest.param(
            (1, 5, 3), (1, 4, 3), {"rater_mask": torch.zeros(1, 4).bool()}, ValueError, "at least one", id="nobody"
        ),
    ],
)
def test_bad_shapes_are_named(outputs, target, extra, error, words):
    with pytest.raises(error, match=words):
        RPSBCELoss(4)(torch.zeros(outputs), torch.zeros(target, dtype=torch.uint8), **extra)


def test_bad_values_are_named():
    outputs, loss = torch.zeros(2, 4, 3), RPSBCELoss(3)
    votes = torch.tensor([[[0, 1, 2]], [[3, 1, 0]]])
    with pytest.raises(ValueError, match=r"votes of item 1 must be in 0\.\.2 raters present\. Got 0 to 3"):
        loss(outputs, votes, n_raters=torch.tensor([3, 2]))
    with pytest.raises(ValueError, match="whole numbers"):
        loss(outputs, votes / 2)
    with pytest.raises(ValueError, match="item 0"):
        loss(outputs, votes - 1)
    with pytest.raises(ValueError, match="'votes' or 'ratings'"):
        loss(outputs, {"label": votes})
    with pytest.raises(TypeError, match="tensor or a mapping"):
        loss(outputs, [votes])


CONSENSUS = {"2d": (3, 1, 4, 5), "3d": (3, 1, 2, 3, 4), "one-item": (1, 1, 7)}


@pytest.mark.parametrize("shape", CONSENSUS.values(), ids=CONSENSUS)
def test_all_forms_of_a_consensus_agree_and_votes_do_not_matter(shape):
    generator = torch.Generator().manual_seed(0)
    outputs, consensus = torch.randn(shape, generator=generator), torch.rand(shape, generator=generator)
    loss = make_loss("consensus", raters=4)
    expected = loss(outputs, consensus)
    votes = torch.randint(0, 5, shape, generator=generator)
    for value in (
        loss(outputs, {"consensus": consensus}),
        loss(MetaTensor(outputs), {"votes": votes, "n_raters": torch.tensor([4]), "consensus": MetaTensor(consensus)}),
        loss(outputs, {"consensus": consensus}, torch.zeros(len(outputs), 4, dtype=torch.bool), 0),
    ):
        assert type(value) is torch.Tensor
        assert torch.equal(value, expected)
    values = make_loss("consensus", raters=4, reduction="none")(outputs, consensus)
    assert values.shape == shape
    torch.testing.assert_close(values.mean(), expected)


def test_gradients_of_the_consensus_loss():
    generator = torch.Generator().manual_seed(0)
    outputs, consensus = (torch.randn(2, 1, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    loss, target = make_loss("consensus", raters=3), {"consensus": consensus.sigmoid()}
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (outputs.requires_grad_(),))


def test_rounding_of_an_interpolation_is_no_error():
    outputs = torch.tensor([[[-1.0, 2.0]]])
    loss = make_loss("consensus", raters=3)
    rounded = loss(outputs, torch.tensor([[[-1e-6, 1 + 1e-6]]]))
    assert torch.equal(rounded, loss(outputs, torch.tensor([[[0.0, 1.0]]])))
    confident = torch.tensor([[[200.0, -200.0]]], requires_grad=True)
    value = loss(confident, torch.tensor([[[0.0, 1.0]]]))
    value.backward()
    assert value == 200
    assert confident.grad.tolist() == [[[0.5, -0.5]]]


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        ({"votes": torch.zeros(2, 1, 3)}, ValueError, r"must have 'consensus'.*Got keys \['votes'\]"),
        ([0.5], TypeError, "must be a tensor or a mapping. Got list"),
        (torch.zeros(2, 4, 3), ValueError, r"consensus \[B, 1, \*spatial\] for outputs of shape \(2, 1, 3\)"),
        (torch.zeros(2, 1, 4), ValueError, r"Got shape \(2, 1, 4\)"),
        (torch.full((2, 1, 3), 1.5), ValueError, r"in \[0, 1\]. Got 1.5 to 1.5"),
        (torch.full((2, 1, 3), -0.01), ValueError, "Got -0.01 to -0.01"),
        (torch.tensor([0.0, 1.0, float("nan")]).expand(2, 1, 3), ValueError, "Got nan to nan"),
    ],
    ids=["no-consensus", "list", "planes", "spatial", "above", "below", "nan"],
)
def test_a_bad_consensus_is_named(target, error, words):
    with pytest.raises(error, match="ConsensusLoss: target .*" + words):
        make_loss("consensus", raters=3)(torch.zeros(2, 1, 3), target)


def test_a_consensus_needs_voxels():
    with pytest.raises(ValueError, match="must have voxels"):
        make_loss("consensus", raters=3)(torch.zeros(2, 1, 0), torch.zeros(2, 1, 0))


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="objective must be one of"):
        make_loss("dice", raters=3)
    with pytest.raises(TypeError, match="lambda_rps"):
        make_loss("soft", raters=3, lambda_rps=1.0)
    with pytest.raises(ValueError, match=r"raters must be in 1\.\.64"):
        make_loss("rps", raters=0)
    with pytest.raises(ValueError, match="family 'coral' can leave empty"):
        OrdinalLoss(3, family="coral", scores="level_ce")
    with pytest.raises(ValueError, match="scores must be among"):
        OrdinalLoss(3, scores={"dice": 1.0})
    with pytest.raises(ValueError, match="ties"):
        RPSBCELoss(4, ties="random")
    with pytest.raises(ValueError, match="missing"):
        RPSBCELoss(4, missing="drop")


def test_every_objective_names_a_family_and_a_foreground_rule():
    for objective in OBJECTIVES:
        assert make_loss(objective, raters=3).family == objective_family(objective)
        assert objective_foreground(objective) in ("majority", "expected")
