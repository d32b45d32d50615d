# SPDX-License-Identifier: Apache-2.0
"""Pictures of cases. What is drawn is read back from the matplotlib artists and compared with plain NumPy."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from monai.data import MetaTensor

from monai_multirater.visualize import case_figure, maps_figure, rater_contours

NAMES = ("ann", "bob", "cleo")


@pytest.fixture
def ratings() -> np.ndarray:
    """Three raters on 12 x 16: nested boxes of rows 3..8."""
    masks = np.zeros((3, 12, 16), np.uint8)
    for rater, (low, high) in enumerate(((4, 10), (5, 11), (6, 14))):
        masks[rater, 3:9, low:high] = 1
    return masks


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 12, 16), np.uint8)


def _outlines(axes) -> list[QuadContourSet]:
    return [artist for artist in axes.get_children() if isinstance(artist, QuadContourSet)]


def _colors(axes) -> list[str]:
    return [to_hex(outline.get_edgecolor()[0]) for outline in _outlines(axes)]


def _extent(outline: QuadContourSet) -> tuple[float, float, float, float]:
    box = outline.get_paths()[0].get_extents()
    return box.x0, box.x1, box.y0, box.y1


def _shown(axes) -> np.ndarray:
    return np.asarray(axes.get_images()[0].get_array())


def _titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_images()]


def _plain_axes():
    return Figure().subplots()


class TestRaterContours:
    def test_one_outline_a_rater_around_the_mask(self, ratings):
        axes = _plain_axes()
        rater_contours(axes, ratings)
        assert [_extent(o) for o in _outlines(axes)] == [
            (3.5, 9.5, 2.5, 8.5),
            (4.5, 10.5, 2.5, 8.5),
            (5.5, 13.5, 2.5, 8.5),
        ]
        assert len(set(_colors(axes))) == 3

    def test_missing_raters_are_not_drawn_and_keep_the_colors_of_others(self, ratings):
        everybody, two = _plain_axes(), _plain_axes()
        rater_contours(everybody, ratings)
        rater_contours(two, ratings, rater_mask=np.array([True, False, True]), names=NAMES)
        assert _colors(two) == [_colors(everybody)[0], _colors(everybody)[2]]
        assert [text.get_text() for text in two.get_legend().get_texts()] == ["ann", "cleo"]

    def test_empty_mask_has_no_outline_but_a_legend_entry(self, ratings):
        ratings[1] = 0
        axes = _plain_axes()
        rater_contours(axes, ratings, names=NAMES)
        assert len(_outlines(axes)) == 2
        assert [text.get_text() for text in axes.get_legend().get_texts()] == list(NAMES)

    def test_full_mask_is_outlined_along_the_edge(self):
        axes = _plain_axes()
        rater_contours(axes, np.ones((1, 12, 16), np.uint8))
        assert _extent(_outlines(axes)[0]) == (-0.5, 15.5, -0.5, 11.5)

    def test_raters_beyond_the_palette_can_be_told_apart_by_color_and_line(self, ratings):
        axes = _plain_axes()
        rater_contours(axes, np.repeat(ratings[:1], 32, axis=0))
        styles = {(to_hex(o.get_edgecolor()[0]), str(o.get_linestyle()[0])) for o in _outlines(axes)}
        assert len(styles) == 32

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"ratings": np.ones((12, 16))}, r"'ratings' must be \[R, H, W\]"),
            ({"rater_mask": np.array([True, True])}, "'rater_mask' must hold one flag for each of 3"),
            ({"rater_mask": np.zeros(3, bool)}, "at least one of them True"),
            ({"names": ("ann",)}, "'names' must hold one name for each of 3"),
        ],
        ids=["no rater axis", "short mask", "nobody present", "too few names"],
    )
    def test_wrong_arguments_are_named(self, ratings, change, message):
        arguments = {"ratings": ratings, **change}
        with pytest.raises(ValueError, match=rf"rater_contours: .*{message}|{message}"):
            rater_contours(_plain_axes(), arguments.pop("ratings"), **arguments)


class TestCaseFigure:
    @pytest.mark.parametrize(
        ("given", "titles"),
        [
            ((), ["image"]),
            (("ratings",), ["image", "mean vote"]),
            (("probability",), ["image", "model"]),
            (("ratings", "probability", "truth"), ["image", "mean vote", "model", "truth"]),
        ],
        ids=lambda value: "+".join(value) or "image only",
    )
    def test_one_panel_a_map_and_one_color_bar(self, image, ratings, given, titles):
        maps = {"ratings": ratings, "probability": np.full((1, 12, 16), 0.25), "truth": np.full((12, 16), 0.75)}
        figure = case_figure(image, **{key: maps[key] for key in given})
        assert _titles(figure) == titles
        assert len(figure.axes) == len(titles) + (len(titles) > 1)
        assert not any(axes.axison for axes in figure.axes[: len(titles)])

    def test_outlines_at_the_edge_leave_all_panels_alike(self, image):
        figure = case_figure(image, np.ones((2, 12, 16), np.uint8))
        limits = [(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes[:2]]
        assert limits == [((-0.5, 15.5), (11.5, -0.5))] * 2

    def test_maps_show_the_numbers_given(self, image, ratings):
        probability = np.random.default_rng(1).random((1, 12, 16), np.float32)
        figure = case_figure(image, ratings, probability=probability, truth=probability[0] ** 2)
        np.testing.assert_allclose(_shown(figure.axes[1]), ratings.mean(axis=0), rtol=1e-12)
        np.testing.assert_array_equal(_shown(figure.axes[2]), probability[0])
        np.testing.assert_array_equal(_shown(figure.axes[3]), probability[0] ** 2)
        assert all(axes.get_images()[0].get_clim() == (0, 1) for axes in figure.axes[1:4])

    def test_missing_rater_counts_neither_in_the_mean_nor_in_the_legend(self, image, ratings):
        figure = case_figure(image, ratings, rater_mask=torch.tensor([True, False, True]), names=NAMES)
        np.testing.assert_allclose(_shown(figure.axes[1]), ratings[[0, 2]].mean(axis=0), rtol=1e-12)
        assert len(_outlines(figure.axes[0])) == 2
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ann", "cleo"]

    def test_plane_of_a_missing_rater_may_hold_anything(self, image, ratings):
        ratings[1] = 7
        figure = case_figure(image, ratings, rater_mask=[True, False, True])
        assert _shown(figure.axes[1]).max() == 1

    def test_several_models_by_name_may_include_one_called_truth(self, image):
        models = {"truth": np.full((12, 16), 0.5), "sharp": np.ones((12, 16))}
        figure = case_figure(image, probability=models)
        assert _titles(figure) == ["image", "truth", "sharp"]
        np.testing.assert_array_equal(_shown(figure.axes[1]), models["truth"])

    @pytest.mark.parametrize(
        ("dtype", "scale"),
        [(np.uint8, 1), (np.float32, 1), (np.float32, 255)],
        ids=["8 bit", "8 bit loaded as float", "0 to 1"],
    )
    def test_color_image_keeps_its_brightness(self, image, dtype, scale):
        dark = (image // 2).astype(dtype) / scale if scale > 1 else (image // 2).astype(dtype)
        shown = _shown(case_figure(dark).axes[0])
        np.testing.assert_allclose(shown, np.moveaxis(image // 2, 0, -1) / 255, rtol=1e-6)

    def test_normalized_color_image_is_stretched(self, image):
        shown = _shown(case_figure((image - 128.0) / 40.0).axes[0])
        assert (shown.min(), shown.max()) == (0, 1)

    @pytest.mark.parametrize("channels", [1, 2], ids=["gray", "two channels"])
    def test_other_images_are_stretched_and_nan_is_dark(self, channels):
        values = np.linspace(-1000, 400, 192).reshape(1, 12, 16).repeat(channels, axis=0)
        values[0, 0, 0] = np.nan
        shown = _shown(case_figure(values).axes[0])
        assert shown.shape == (12, 16)
        assert shown[0, 0] == 0
        assert (shown.min(), shown.max()) == (0, 1)

    def test_constant_image_has_a_picture(self):
        assert np.isfinite(_shown(case_figure(np.full((1, 12, 16), 3.0)).axes[0])).all()

    @pytest.mark.parametrize(
        ("votes_at", "asked", "expected"),
        [(5, None, 5), (None, None, 4), (5, 1, 1), (5, -1, 7)],
        ids=["most votes", "middle without votes", "as asked", "from the end"],
    )
    def test_volume_shows_the_right_slice_with_the_first_axis_to_the_right(self, votes_at, asked, expected):
        volume = np.random.default_rng(2).random((1, 10, 6, 8))
        masks = np.zeros((2, 10, 6, 8), np.uint8)
        masks[:, 2, 1, 2] = 1
        if votes_at is not None:
            masks[:, 2:5, 1:5, votes_at] = 1
        else:
            masks[:] = 0
        figure = case_figure(volume, masks, probability=volume, slice_index=asked)
        np.testing.assert_array_equal(_shown(figure.axes[2]), volume[0, :, :, expected].T)
        assert figure.axes[2].get_images()[0].origin == "lower"
        if expected == votes_at:
            assert _extent(_outlines(figure.axes[0])[0]) == (1.5, 4.5, 0.5, 4.5)

    def test_tensors_of_any_kind_give_the_same_picture(self, image, ratings):
        plain = case_figure(image, ratings, probability=np.full((1, 12, 16), 0.5))
        tensors = case_figure(
            MetaTensor(torch.from_numpy(image)),
            torch.from_numpy(ratings).bool(),
            probability=torch.full((1, 12, 16), 0.5, dtype=torch.bfloat16, requires_grad=True),
        )
        for ours, theirs in zip(plain.axes[:3], tensors.axes[:3], strict=True):
            np.testing.assert_array_equal(_shown(ours), _shown(theirs))

    @pytest.mark.cuda
    def test_cuda_tensors_are_drawn(self, image, ratings):
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
        figure = case_figure(torch.from_numpy(image).cuda(), torch.from_numpy(ratings).cuda())
        assert _titles(figure) == ["image", "mean vote"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"image": np.zeros((12, 16))}, r"'image' must be \[C, H, W\] or \[C, X, Y, Z\]"),
            ({"ratings": np.zeros((3, 16, 12), np.uint8)}, r"'ratings' must be .* Got shape \(3, 16, 12\)"),
            ({"probability": np.zeros((2, 12, 16))}, r"'model' must have shape .* Got \(2, 12, 16\)"),
            ({"truth": np.zeros((12, 15))}, "'truth' must have shape"),
            ({"rater_mask": [False] * 3}, "at least one of them True"),
            ({"names": ["ann"]}, "one name for each of 3"),
            ({"slice_index": 0}, "'slice_index' must be a slice along the last axis of a volume"),
        ],
        ids=["no channel", "ratings grid", "two channels", "truth grid", "nobody", "names", "slice of a picture"],
    )
    def test_wrong_arguments_are_named(self, image, ratings, arguments, message):
        given = {"image": image, "ratings": ratings, **arguments}
        with pytest.raises(ValueError, match=f"case_figure: .*{message}"):
            case_figure(given.pop("image"), given.pop("ratings"), **given)

    def test_slice_outside_the_volume_is_refused(self):
        with pytest.raises(ValueError, match="Got 8 for shape"):
            case_figure(np.zeros((1, 4, 4, 8)), slice_index=8)


class TestMapsFigure:
    def test_maps_are_laid_out_in_rows_of_columns(self):
        maps = {f"map {i}": np.full((12, 16), i / 5) for i in range(5)}
        figure = maps_figure(maps, columns=3, label="share")
        assert _titles(figure) == list(maps)
        assert len(figure.axes) == 6
        assert figure.axes[-1].get_ylabel() == "share"

    def test_votes_have_one_color_a_level(self):
        votes = np.arange(4).repeat(4).reshape(4, 4)
        figure = maps_figure({"votes": votes}, levels=3)
        drawn = figure.axes[0].get_images()[0]
        colors = {tuple(drawn.to_rgba(np.array([[value]]))[0, 0]) for value in range(4)}
        assert len(colors) == 4
        assert list(figure.axes[1].get_yticks()) == [0, 1, 2, 3]

    def test_limits_hold_for_all_maps(self):
        figure = maps_figure({"a": np.zeros((4, 4)), "b": np.ones((1, 4, 4))}, limits=(-1, 1), colors="RdBu_r")
        assert [axes.get_images()[0].get_clim() for axes in figure.axes[:2]] == [(-1, 1), (-1, 1)]

    def test_volume_shows_the_slice_with_the_largest_values(self):
        volume = np.zeros((1, 6, 5, 9))
        volume[0, 2, 3, 7] = -2
        shown = _shown(maps_figure({"deviation": volume}, limits=(-2, 2)).axes[0])
        assert shown.shape == (5, 6)
        assert shown[3, 2] == -2

    @pytest.mark.parametrize(
        ("maps", "options", "message"),
        [
            ({}, {}, "at least one map"),
            ({"a": np.zeros((4, 4))}, {"columns": 0}, "one column"),
            ({"a": np.zeros((4, 4)), "b": np.zeros((4, 5))}, {}, "'b' must have shape"),
            ({"a": np.zeros(4)}, {}, "must be 2D or 3D"),
        ],
        ids=["no map", "no column", "two shapes", "a line"],
    )
    def test_wrong_arguments_are_named(self, maps, options, message):
        with pytest.raises(ValueError, match=f"maps_figure: .*{message}"):
            maps_figure(maps, **options)


def test_nothing_is_clipped_and_the_background_is_white(image, ratings, tmp_path):
    figure = case_figure(image, ratings, probability=np.ones((12, 16)), names=NAMES, title="case 1")
    figure.savefig(tmp_path / "figure.png", dpi=100)
    pixels = mpl.image.imread(tmp_path / "figure.png")
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        np.testing.assert_array_equal(edge[..., :3], 1.0)


def test_settings_of_matplotlib_are_left_alone(image, ratings):
    before = dict(mpl.rcParams)
    case_figure(image, ratings)
    maps_figure({"votes": ratings.sum(axis=0)}, levels=3)
    assert dict(mpl.rcParams) == before


@pytest.mark.slow
def test_pyplot_holds_no_figure():
    script = (
        "import sys, numpy as np; from monai_multirater.visualize import case_figure; "
        "case_figure(np.zeros((1, 4, 4)), np.ones((2, 4, 4), 'uint8')); "
        "pyplot = sys.modules.get('matplotlib.pyplot'); assert pyplot is None or not pyplot.get_fignums()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
