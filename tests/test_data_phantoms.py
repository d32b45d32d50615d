# SPDX-License-Identifier: Apache-2.0
"""Phantoms: the true vote probability against Monte-Carlo, determinism, atomic writing."""

import hashlib
import itertools
import logging
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from monai_multirater.data import DEFAULT_RATERS, RaterStyle, check_manifest, make_phantoms, read_manifest
from monai_multirater.data import phantoms as phantoms_module
from monai_multirater.data.phantom_shapes import (
    Lesion,
    draw_mask,
    gaussian_field,
    make_lesion,
    signed_distance,
    true_vote_probability,
    vote_probability,
)
from monai_multirater.data.phantoms import default_raters, make_case
from monai_multirater.data.readers import read_image, read_mask

SMALL = {"cases": 4, "size": 32, "raters": 3, "splits": (0.5, 0.25, 0.25), "progress": False}


def _lesion(dimensions: int) -> Lesion:
    size, spacing = ((40, 36), (1.0, 1.0)) if dimensions == 2 else ((16, 14, 12), (0.75, 0.75, 1.0))
    return make_lesion(size, spacing, np.random.default_rng(3), radius=(0.28, 0.32))


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("dimensions", [2, 3], ids=["2d", "3d"])
@pytest.mark.parametrize(
    "style",
    [
        RaterStyle("plain"),
        RaterStyle("large", size_bias=0.3, boundary_noise=1.5, smoothness=0.1),
        RaterStyle("careless", size_bias=-0.2, boundary_noise=0.7, smoothness=1.2, miss_rate=0.3),
        RaterStyle("white", smoothness=0.0),
    ],
    ids=lambda style: style.name,
)
def test_simulated_draws_match_the_closed_form_vote_probability(style: RaterStyle, dimensions: int) -> None:
    """Monte-Carlo: every voxel's vote frequency lies within 5 standard errors of the closed form."""
    lesion, draws = _lesion(dimensions), 3000
    generator = np.random.default_rng(11)
    frequency = sum(draw_mask(lesion, style, generator).astype(np.int64) for _ in range(draws)) / draws
    z = (lesion.distance + style.size_bias * lesion.radius) / (style.boundary_noise * lesion.fuzziness)
    expected = (1 - style.miss_rate) * stats.norm.cdf(z)
    np.testing.assert_allclose(vote_probability(lesion, style), expected, rtol=1e-9, atol=1e-15)
    variance = expected * (1 - expected)
    often = draws * variance > 10
    assert often.sum() > 50
    assert np.abs((frequency - expected)[often] / np.sqrt(variance[often] / draws)).max() < 5
    assert np.abs((frequency - expected)[~often]).max() < 40 / draws


def test_mean_of_all_raters_matches_the_written_truth() -> None:
    """Monte-Carlo over the default raters: the mean squared deviation equals the sampling variance."""
    lesion, rounds = _lesion(2), 400
    generator = np.random.default_rng(5)
    votes = sum(
        draw_mask(lesion, style, generator).astype(np.int64) for _ in range(rounds) for style in DEFAULT_RATERS[:5]
    )
    truth = true_vote_probability(lesion, DEFAULT_RATERS[:5])
    assert truth.dtype == np.float32
    error = np.mean((votes / (5 * rounds) - truth) ** 2)
    each = [vote_probability(lesion, style) for style in DEFAULT_RATERS[:5]]
    sampling = np.mean([p * (1 - p) for p in each]) / (5 * rounds)
    assert error == pytest.approx(sampling, rel=0.35)


def test_a_rater_without_noise_votes_by_the_step_function() -> None:
    lesion, style = _lesion(2), RaterStyle("exact", boundary_noise=0.0, size_bias=0.1)
    expected = lesion.distance + 0.1 * lesion.radius > 0
    np.testing.assert_array_equal(vote_probability(lesion, style), expected)
    np.testing.assert_array_equal(draw_mask(lesion, style, np.random.default_rng(0)), expected)


def test_a_rater_who_misses_everything_leaves_empty_masks() -> None:
    lesion, style = _lesion(2), RaterStyle("blind", miss_rate=1.0)
    assert not vote_probability(lesion, style).any()
    assert not draw_mask(lesion, style, np.random.default_rng(0)).any()


@pytest.mark.parametrize("shape", [(32, 24), (12, 10, 8), (9, 7)], ids=str)
def test_gaussian_field_has_unit_variance_at_every_voxel(shape: tuple[int, ...]) -> None:
    """Closed form: variance 1; with n draws the mean square has standard deviation sqrt(2 / n)."""
    generator, draws = np.random.default_rng(1), 4000
    squares = sum(gaussian_field(shape, [3.0] * len(shape), generator) ** 2 for _ in range(draws)) / draws
    assert np.abs(squares - 1).max() < 5 * np.sqrt(2 / draws)


def test_signed_distance_of_a_ball_is_its_radius_minus_the_distance_to_the_center() -> None:
    grid = np.indices((41, 41)) - 20.0
    radius = np.linalg.norm(grid, axis=0)
    assert np.abs(signed_distance(radius < 12, (1, 1)) - (12 - radius)).max() < 1.0


def test_same_seed_gives_identical_files_and_another_seed_does_not(tmp_path: Path) -> None:
    for dimensions, size in ((2, 32), (3, 16)):
        options = {**SMALL, "dimensions": dimensions, "size": size}
        first = make_phantoms(tmp_path / f"a{dimensions}" / "set", seed=4, **options).parent
        second = make_phantoms(tmp_path / f"b{dimensions}" / "set", seed=4, **options).parent
        other = make_phantoms(tmp_path / f"c{dimensions}" / "set", seed=5, **options).parent
        assert _digests(first) == _digests(second)
        images = {name for name, digest in _digests(first).items() if _digests(other)[name] == digest}
        assert not any(name.startswith("images") for name in images)


def test_image_does_not_depend_on_the_raters() -> None:
    _, few, _, _ = make_case(2, 32, default_raters(2), seed=1, index=0)
    _, many, _, _ = make_case(2, 32, default_raters(6), seed=1, index=0)
    np.testing.assert_array_equal(few, many)


def test_default_2d_set_disagrees_but_not_wildly() -> None:
    """The first 30 cases of the default set: mean pairwise Dice by a plain loop."""
    scores = []
    for index in range(30):
        _, image, masks, truth = make_case(2, 128, default_raters(5), seed=0, index=index)
        assert image.shape == (128, 128, 3)
        assert image.dtype == np.uint8
        assert truth.shape == (128, 128)
        pairs = [(a, b) for a, b in itertools.combinations(masks, 2) if a.any() and b.any()]
        scores += [2 * (a & b).sum() / (int(a.sum()) + int(b.sum())) for a, b in pairs]
    assert 0.80 < np.mean(scores) < 0.88


def test_files_have_the_promised_formats(phantoms_2d: Path, phantoms_3d: Path) -> None:
    flat, volume = read_manifest(phantoms_2d), read_manifest(phantoms_3d)
    assert check_manifest(flat, level="full") == ()
    assert check_manifest(volume, level="full") == ()
    assert {name: len(cases) for name, cases in flat.splits.items()} == {
        "training": 6,
        "validation": 2,
        "test": 2,
    }
    case = flat.cases[0]
    assert read_image(flat.path(case.image)).channels == 3
    assert read_image(flat.path(str(case.truth))).array.dtype == np.float32
    case = volume.cases[0]
    image = read_image(volume.path(case.image))
    assert image.array.dtype == np.int16
    assert image.spacing == pytest.approx((0.75, 0.75, 1.0))
    assert -1100 < image.array.min() < -700 < 0 < image.array.max() < 400
    truth = read_image(volume.path(str(case.truth))).array
    assert truth.dtype == np.float32
    masks = [read_mask(volume.path(path)).array for path in case.ratings.values()]
    assert np.abs(np.mean(masks, axis=0) - truth).mean() < 0.1


def test_missing_raters_are_left_out_but_never_all(phantoms_missing: Path) -> None:
    counts = [len(case.ratings) for case in read_manifest(phantoms_missing).cases]
    assert min(counts) >= 1
    assert min(counts) < 5
    assert len(set(counts)) > 1


def test_complete_set_is_reused_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_phantoms(tmp_path / "set", **SMALL)
    before = {p: p.stat().st_mtime_ns for p in path.parent.rglob("*")}
    with caplog.at_level(logging.INFO):
        assert make_phantoms(tmp_path / "set", **SMALL) == path
    assert "used again" in caplog.text
    assert before == {p: p.stat().st_mtime_ns for p in path.parent.rglob("*")}


def test_other_parameters_need_overwrite(tmp_path: Path) -> None:
    make_phantoms(tmp_path / "set", **SMALL)
    with pytest.raises(FileExistsError, match="other parameters"):
        make_phantoms(tmp_path / "set", **SMALL, seed=1)
    make_phantoms(tmp_path / "set", **SMALL, seed=1, overwrite=True)
    assert read_manifest(tmp_path / "set" / "manifest.json").meta["phantom"]["seed"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="not a phantom set"):
        make_phantoms(tmp_path / "mine", **SMALL, overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_an_interrupted_call_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = phantoms_module._write_case

    def interrupted(*args: object) -> object:
        if args[-1] == 2:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(phantoms_module, "_write_case", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_phantoms(tmp_path / "set", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_that_finishes_later_keeps_the_first_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = phantoms_module._write_set

    def overtaken(*args: object) -> None:
        original(*args)
        monkeypatch.setattr(phantoms_module, "_write_set", original)
        make_phantoms(tmp_path / "set", **SMALL)

    monkeypatch.setattr(phantoms_module, "_write_set", overtaken)
    path = make_phantoms(tmp_path / "set", **SMALL)
    assert check_manifest(read_manifest(path), level="full") == ()
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"dimensions": 4}, "dimensions"),
        ({"cases": 0}, "cases"),
        ({"size": 8}, "size"),
        ({"raters": 9}, "count"),
        ({"raters": ()}, "raters"),
        ({"raters": (RaterStyle("a"), RaterStyle("a"))}, "raters"),
        ({"missing_rate": 1.0}, "missing_rate"),
        ({"splits": (0.5, 0.5, 0.5)}, "splits"),
        ({"seed": -1}, "seed"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_wrong_arguments_are_named(tmp_path: Path, options: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        make_phantoms(tmp_path / "set", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        {"name": "a/b"},
        {"name": ".."},
        {"name": "truth"},
        {"name": "a", "miss_rate": 2},
        {"name": "a", "smoothness": -1},
    ],
    ids=str,
)
def test_wrong_rater_styles_raise(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="RaterStyle"):
        RaterStyle(**options)
