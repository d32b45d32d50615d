# SPDX-License-Identifier: Apache-2.0
"""Maps from level probabilities. References: SciPy's entropy and sums written out in NumPy."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.special import softmax
from scipy.stats import entropy

from monai_multirater.transforms import LevelMapsd, OrdinalToLevelsd

SPATIAL = {"2d": (4, 5), "3d": (3, 4, 5)}


def levels(raters: int, spatial: tuple[int, ...]) -> torch.Tensor:
    logits = torch.randn(raters + 1, *spatial, generator=torch.Generator().manual_seed(raters), dtype=torch.float64)
    return torch.softmax(3 * logits, 0)


@pytest.mark.parametrize("spatial", SPATIAL.values(), ids=SPATIAL)
@pytest.mark.parametrize("raters", [1, 2, 5])
@pytest.mark.parametrize("rule", ["expected", "majority"])
def test_maps_of_a_case(raters: int, spatial: tuple[int, ...], rule: str) -> None:
    probs = levels(raters, spatial)
    sample = LevelMapsd("pred", rule=rule)({"pred": probs, "case": "a"})
    array, counts = probs.numpy(), np.arange(raters + 1)
    expected, majority = np.tensordot(counts / raters, array, 1), array[2 * counts > raters].sum(0)
    foreground = expected if rule == "expected" else majority
    np.testing.assert_allclose(sample["probability"][0], foreground, atol=1e-12)
    np.testing.assert_array_equal(sample["votes"][0], array.argmax(0))
    np.testing.assert_allclose(sample["uncertainty"][0], entropy(array, base=raters + 1, axis=0), atol=1e-12)
    assert sample["votes"].dtype == torch.uint8
    assert all(sample[key].shape == (1, *spatial) for key in ("probability", "votes", "uncertainty"))


def test_certain_and_undecided_voxels_end_at_0_and_1() -> None:
    probs = torch.tensor([[1.0, 0.25], [0.0, 0.25], [0.0, 0.25], [0.0, 0.25]])[..., None]
    sample = LevelMapsd("pred")({"pred": probs})
    assert sample["uncertainty"].flatten().tolist() == pytest.approx([0.0, 1.0])
    assert sample["probability"].flatten().tolist() == pytest.approx([0.0, 0.5])


def test_interpolated_levels_become_a_distribution_again() -> None:
    probs = levels(3, (4, 5)).float()
    disturbed = torch.cat([probs[:1] * 0 - 0.01, probs[1:]]) * 1.7
    clean = probs.clone()
    clean[0] = 0
    clean /= clean.sum(0)
    maps = [LevelMapsd("pred")({"pred": p}) for p in (disturbed, clean)]
    for key in ("probability", "uncertainty"):
        torch.testing.assert_close(maps[0][key], maps[1][key])


def test_outputs_become_levels_and_keep_their_meta_data() -> None:
    outputs = MetaTensor(torch.randn(4, 5, 6), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])))
    sample = OrdinalToLevelsd("pred", family="softmax", raters=3)({"pred": outputs})
    np.testing.assert_allclose(sample["pred"].numpy(), softmax(outputs.numpy(), 0), atol=1e-6)
    assert isinstance(sample["pred"], MetaTensor)
    torch.testing.assert_close(sample["pred"].affine, outputs.affine)
