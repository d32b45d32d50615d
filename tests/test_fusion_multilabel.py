# SPDX-License-Identifier: Apache-2.0
"""Multi-label STAPLE against SimpleITK, Dawid-Skene against crowd-kit and a loop over voxels."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from fusion_cases import disagreeing_raters
from torch import Tensor

from monai_multirater.fusion import dawid_skene, multilabel_staple, staple


def labelings(raters: int, spatial: tuple[int, ...], classes: int, *, seed: int = 0, noise: float = 0.1) -> Tensor:
    """Nested shapes 0..classes-1, with random labels sprinkled in by each rater."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in spatial), indexing="ij")
    planes = []
    for _ in range(raters):
        center = 0.1 * torch.randn(len(spatial), generator=generator)
        distance = torch.stack([(axis - c) ** 2 for axis, c in zip(axes, center, strict=True)]).sum(0).sqrt()
        label = (classes - (distance * classes).long()).clamp(0, classes - 1)
        other = torch.randint(classes, spatial, generator=generator)
        planes.append(torch.where(torch.rand(spatial, generator=generator) < noise, other, label))
    return torch.stack(planes)


@pytest.mark.parametrize("spatial", [(30, 31), (10, 11, 12)], ids=["2D", "3D"])
@pytest.mark.parametrize(("raters", "classes"), [(3, 3), (4, 4), (5, 2), (7, 5)])
def test_multilabel_staple_equals_simpleitk(raters: int, classes: int, spatial: tuple[int, ...]) -> None:
    labels = labelings(raters, spatial, classes, seed=raters)
    reference = sitk.MultiLabelSTAPLEImageFilter()
    image = reference.Execute([sitk.GetImageFromArray(plane.numpy().astype(np.uint8)) for plane in labels])
    found = multilabel_staple(labels, classes=classes)
    assert np.array_equal(found.labels[0].numpy(), sitk.GetArrayFromImage(image))
    for r in range(raters):
        expected = np.array(reference.GetConfusionMatrix(r)).reshape(classes + 1, classes)[:classes]
        # ITK sums in float32 and stops as soon as a float32 change is below 1e-5
        assert np.allclose(found.confusion[r].numpy().T, expected, rtol=0, atol=2e-3)


def test_two_classes_are_symmetric_up_to_the_names() -> None:
    labels = labelings(4, (20, 21), 2)
    first, swapped = multilabel_staple(labels, classes=2), multilabel_staple(1 - labels, classes=2)
    assert torch.allclose(first.probability, swapped.probability.flip(0), atol=1e-6)


def test_undecided_voxels_get_the_label_asked_for() -> None:
    labels = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1]])
    assert multilabel_staple(labels, classes=2).labels.tolist() == [[0, 2, 2, 1]]
    assert multilabel_staple(labels, classes=2, undecided=0).labels.tolist() == [[0, 0, 0, 1]]


def loop_dawid_skene(labels: np.ndarray, classes: int, rounds: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reference: the paper's two steps, voxel by voxel in float64."""
    raters, voxels = labels.shape
    truth = np.array([[np.mean(labels[:, v] == c) for c in range(classes)] for v in range(voxels)])
    for _ in range(rounds):
        prior = truth.mean(0)
        confusion = np.zeros((raters, classes, classes))
        for r in range(raters):
            for v in range(voxels):
                confusion[r, :, labels[r, v]] += truth[v]
        confusion /= confusion.sum(2, keepdims=True)
        for v in range(voxels):
            joint = prior.copy()
            for r in range(raters):
                joint = joint * confusion[r, :, labels[r, v]]
            truth[v] = joint / joint.sum()
    return truth, confusion, prior


@pytest.mark.parametrize(("raters", "classes"), [(3, 2), (4, 3), (5, 4)])
def test_dawid_skene_equals_a_loop_over_voxels(raters: int, classes: int) -> None:
    labels = labelings(raters, (12, 13), classes, seed=classes)
    found = dawid_skene(labels, classes=classes)
    assert found.converged
    truth, confusion, prior = loop_dawid_skene(labels.flatten(1).numpy(), classes, found.iterations)
    assert np.allclose(found.probability.flatten(1).numpy().T, truth, rtol=0, atol=1e-6)
    assert np.allclose(found.confusion.numpy(), confusion, rtol=0, atol=1e-10)
    assert np.allclose(found.prior.numpy(), prior, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_dawid_skene_equals_crowd_kit() -> None:
    aggregation = pytest.importorskip("crowdkit.aggregation")
    import pandas as pd

    labels = labelings(4, (9, 10), 3, seed=8, noise=0.2)
    planes = labels.flatten(1).numpy()
    rows = [(v, r, int(planes[r, v])) for v in range(planes.shape[1]) for r in range(4)]
    model = aggregation.DawidSkene(n_iter=300, tol=-float("inf"))
    model.fit(pd.DataFrame(rows, columns=["task", "worker", "label"]))
    expected = model.probas_.sort_index().sort_index(axis=1).to_numpy()
    found = dawid_skene(labels, classes=3, max_iterations=300, tolerance=1e-300)
    assert np.allclose(found.probability.flatten(1).numpy().T, expected, rtol=0, atol=1e-5)


def test_dawid_skene_of_two_classes_is_staple_with_a_prior_that_moves() -> None:
    """At a fixed point, STAPLE with the estimated prior as its own gives the same posterior."""
    ratings = disagreeing_raters(5, seed=11)
    found = dawid_skene(ratings)
    weight = float(found.prior[1] / ratings.double().mean())
    same = staple(ratings, confidence_weight=weight)
    assert torch.allclose(same.probability[0], found.probability[1], atol=1e-5)
    assert torch.allclose(same.sensitivity, found.confusion[:, 1, 1], rtol=0, atol=1e-5)


def test_a_class_that_nobody_uses_has_no_probability() -> None:
    labels = labelings(3, (10, 10), 3)
    found = dawid_skene(labels, classes=4)
    assert (found.probability[3] == 0).all()
    assert found.prior[3] == 0
    assert found.confusion[:, 3].isnan().all()
    assert torch.allclose(found.probability[:3], dawid_skene(labels, classes=3).probability, atol=1e-6)


@pytest.mark.parametrize("fusion", [dawid_skene, multilabel_staple], ids=["Dawid-Skene", "STAPLE"])
def test_missing_raters_are_absent_raters(fusion) -> None:  # type: ignore[no-untyped-def]
    labels = labelings(5, (16, 15), 3, seed=3)
    mask = torch.tensor([True, False, True, True, False])
    damaged = labels.clone()
    damaged[~mask] = 77
    found, expected = fusion(damaged, mask, classes=3), fusion(labels[mask], classes=3)
    assert torch.allclose(found.probability, expected.probability, atol=1e-7)
    assert torch.allclose(found.confusion[mask], expected.confusion, rtol=0, atol=1e-12, equal_nan=True)
    assert found.confusion[~mask].isnan().all()
    assert found.iterations == expected.iterations


@pytest.mark.parametrize("fusion", [dawid_skene, multilabel_staple], ids=["Dawid-Skene", "STAPLE"])
def test_a_batch_is_its_cases(fusion) -> None:  # type: ignore[no-untyped-def]
    labels = torch.stack([labelings(4, (9, 8), 3, seed=s) for s in range(3)])
    mask = torch.tensor([[True] * 4, [True, False, True, True], [True] * 4])
    found = fusion(labels, mask, classes=3)
    for case in range(3):
        single = fusion(labels[case], mask[case], classes=3)
        assert torch.equal(found.probability[case], single.probability)
        assert torch.equal(found.confusion[case].nan_to_num(), single.confusion.nan_to_num())
        assert (int(found.iterations[case]), bool(found.converged[case])) == (single.iterations, single.converged)


@pytest.mark.parametrize(
    ("labels", "classes", "error", "message"),
    [
        (torch.full((2, 4), 3), 3, ValueError, r"labels must be in 0..2. Got 3 to 3 for rater 0"),
        (torch.zeros(2, 4), 3, TypeError, "labels must be bool or integer masks. Got dtype torch.float32"),
        (torch.zeros(2, 4, dtype=torch.int64), 1, ValueError, "classes at least 2"),
        (torch.zeros(64, 4, dtype=torch.int64), 2, ValueError, "2\\^63"),
    ],
)
@pytest.mark.parametrize("fusion", [dawid_skene, multilabel_staple], ids=["Dawid-Skene", "STAPLE"])
def test_bad_labels_are_named(fusion, labels: Tensor, classes: int, error: type[Exception], message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        fusion(labels, classes=classes)
