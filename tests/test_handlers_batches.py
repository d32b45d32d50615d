# SPDX-License-Identifier: Apache-2.0
"""From a batch to image and label. Reference: the batch itself."""

import pytest
import torch

from monai_multirater.handlers import PrepareVotes

BATCH = {
    "image": torch.rand(2, 3, 4, 4),
    "votes": torch.ones(2, 1, 4, 4, dtype=torch.uint8),
    "n_raters": torch.tensor([3, 2]),
    "case": ["a", "b"],
    "truth": [torch.rand(1, 4, 4), None],
}
NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, NO_CUDA])]


@pytest.mark.parametrize("device", DEVICES)
def test_the_label_holds_the_keys_asked_for(device: str) -> None:
    image, label = PrepareVotes(["votes", "n_raters", "case"])(BATCH, device)
    assert label is not None
    assert image.device.type == label["votes"].device.type == label["n_raters"].device.type == device
    assert torch.equal(image.cpu(), BATCH["image"])
    assert list(label) == ["votes", "n_raters", "case"]
    assert label["case"] == ["a", "b"]


def test_keys_that_a_batch_lacks_are_left_out_and_lists_are_kept() -> None:
    _, label = PrepareVotes(["votes", "ratings", "truth"])(BATCH)
    assert label is not None
    assert list(label) == ["votes", "truth"]
    assert label["truth"][1] is None


def test_a_consensus_is_handed_over() -> None:
    consensus = torch.rand(2, 1, 4, 4)
    _, label = PrepareVotes(["votes", "consensus"])({**BATCH, "consensus": consensus})
    assert label is not None
    assert torch.equal(label["consensus"], consensus)


def test_without_any_key_there_is_no_label() -> None:
    _, label = PrepareVotes()({"image": BATCH["image"]})
    assert label is None


def test_options_reach_the_transfer() -> None:
    image, _ = PrepareVotes()(BATCH, "cpu", True, dtype=torch.float64)
    assert image.dtype == torch.float64


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="Got labels instead"):
        PrepareVotes(["votes", "labels"])
