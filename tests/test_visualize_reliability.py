# SPDX-License-Identifier: Apache-2.0
"""The reliability diagram. Expected points follow by hand from a table of four bins."""

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import StepPatch

from monai_multirater.calibration import ReliabilityTable
from monai_multirater.visualize import reliability_diagram, reliability_panels


@pytest.fixture
def table() -> ReliabilityTable:
    """Four bins, the third empty: 100 pairs at 0.1 with 20 votes, 50 at 0.4 with 20, 10 at 0.9 with 5."""
    return ReliabilityTable(
        pairs=np.array([100, 50, 0, 10]),
        sum_confidence=np.array([10.0, 20.0, 0.0, 9.0]),
        sum_votes=np.array([20, 20, 0, 5]),
        cases=1,
    )


def _curves(figure):
    """Model curves of the upper axes, without the diagonal."""
    return figure.axes[0].get_lines()[1:]


def _steps(figure) -> list[StepPatch]:
    return [patch for patch in figure.axes[1].patches if isinstance(patch, StepPatch)]


def test_points_are_mean_confidence_and_share_of_votes_without_the_empty_bin(table):
    (curve,) = _curves(reliability_diagram(table))
    np.testing.assert_allclose(curve.get_xydata(), [[0.1, 0.2], [0.4, 0.4], [0.9, 0.5]], rtol=1e-12)


def test_diagonal_is_drawn(table):
    diagonal = reliability_diagram(table).axes[0].get_lines()[0]
    np.testing.assert_array_equal(diagonal.get_xydata(), [[0, 0], [1, 1]])


def test_lower_axes_count_the_pairs_of_each_bin(table):
    figure = reliability_diagram(table)
    (steps,) = _steps(figure)
    values, edges, _ = steps.get_data()
    np.testing.assert_array_equal(values, [100, 50, np.nan, 10])
    np.testing.assert_array_equal(edges, [0, 0.25, 0.5, 0.75, 1])
    assert figure.axes[1].get_yscale() == "log"


def test_legend_gives_the_error_of_one_table(table):
    texts = [text.get_text() for text in reliability_diagram(table).axes[0].get_legend().get_texts()]
    assert texts == ["MR-ECE 0.0875"]  # (10 + 0 + 4) / 160


def test_several_tables_with_their_own_bins_share_colors_above_and_below(table):
    other = ReliabilityTable.from_case(np.full((4, 4), 0.3), np.ones((4, 4), np.uint8), 3, bins=10)
    figure = reliability_diagram({"a": table, "b": other}, title="two models")
    assert [curve.get_label() for curve in _curves(figure)] == ["a (MR-ECE 0.0875)", "b (MR-ECE 0.0333)"]
    np.testing.assert_allclose(_curves(figure)[1].get_xydata(), [[0.3, 1 / 3]], rtol=1e-12)
    above = [curve.get_color() for curve in _curves(figure)]
    assert len(set(above)) == 2
    below = [matplotlib.colors.to_hex(step.get_edgecolor()) for step in _steps(figure)]
    assert below == above
    assert figure.axes[0].get_title() == "two models"


def test_empty_table_has_the_diagonal_and_says_so(table, tmp_path):
    figure = reliability_diagram({"full": table, "empty": ReliabilityTable.empty(4)})
    assert _curves(figure)[1].get_label() == "empty (no pairs)"
    assert not len(_curves(figure)[1].get_xydata())
    figure.savefig(tmp_path / "figure.png")


def test_merged_tables_give_the_points_of_all_pairs(table):
    (curve,) = _curves(reliability_diagram(table + table))
    np.testing.assert_allclose(curve.get_xydata(), [[0.1, 0.2], [0.4, 0.4], [0.9, 0.5]], rtol=1e-12)


def test_pyplot_knows_no_figure_and_nothing_is_clipped(table, tmp_path):
    before = plt.get_fignums()
    figure = reliability_diagram(table, title="a title that says what was evaluated")
    assert plt.get_fignums() == before
    figure.savefig(tmp_path / "figure.png", dpi=80)
    pixels = matplotlib.image.imread(tmp_path / "figure.png")
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        np.testing.assert_array_equal(edge[..., :3], 1.0)


@pytest.fixture
def opposite() -> ReliabilityTable:
    """As many pairs, errors of the other sign: together with the first table, all of its bins are calibrated."""
    return ReliabilityTable(
        pairs=np.array([100, 50, 0, 10]),
        sum_confidence=np.array([10.0, 20.0, 0.0, 9.0]),
        sum_votes=np.array([0, 20, 0, 13]),
        cases=1,
    )


def test_panels_have_a_title_with_the_mean_error_of_the_runs(table, opposite):
    """0.0875 and (10 + 0 + 4) / 160 as well; together they would have none."""
    figure = reliability_panels({"a": [table, opposite], "b": [table]}, title="set")
    assert [axes.get_title() for axes in figure.axes] == ["a\nMR-ECE 0.0875", "b\nMR-ECE 0.0875"]
    assert (table + opposite).compute() == 0
    assert figure.get_suptitle().startswith("set\n")
    assert "thin lines: single runs" in figure.get_suptitle()
    assert "thin lines" not in reliability_panels({"a": [table]}).get_suptitle()


def test_panels_show_single_runs_thin_and_all_together_thick(table, opposite):
    first, second = reliability_panels({"a": [table, opposite], "b": [table]}).axes
    diagonal, run, other, pooled = first.get_lines()
    np.testing.assert_array_equal(diagonal.get_xydata(), [[0, 0], [1, 1]])
    np.testing.assert_allclose(run.get_xydata(), [[0.1, 0.2], [0.4, 0.4], [0.9, 0.5]], rtol=1e-12)
    np.testing.assert_allclose(other.get_xydata(), [[0.1, 0.0], [0.4, 0.4], [0.9, 1.3]], rtol=1e-12)
    np.testing.assert_allclose(pooled.get_xydata(), [[0.1, 0.1], [0.4, 0.4], [0.9, 0.9]], rtol=1e-12)
    assert run.get_linewidth() == other.get_linewidth() < pooled.get_linewidth()
    assert len(second.get_lines()) == 2  # one run: no thin line
    (points,) = first.collections
    np.testing.assert_allclose(points.get_offsets(), pooled.get_xydata())
    assert np.all(np.diff(points.get_sizes()) < 0)  # 200, 100 and 20 pairs


@pytest.mark.parametrize(("methods", "shape"), [(1, (1, 1)), (3, (2, 2)), (8, (3, 3)), (16, (4, 4)), (17, (5, 4))])
def test_as_many_panels_as_methods(methods, shape, table, tmp_path):
    figure = reliability_panels({f"method {index}": [table] * 2 for index in range(methods)}, title="a data set")
    assert len(figure.axes) == methods
    grid = figure.axes[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == shape
    figure.savefig(tmp_path / "figure.png", dpi=60)
    below = figure.axes[-shape[1] :]
    assert all(axes.xaxis.get_tick_params()["labelbottom"] for axes in below)
    pixels = matplotlib.image.imread(tmp_path / "figure.png")
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        np.testing.assert_array_equal(edge[..., :3], 1.0)


def test_a_panel_without_pairs_says_so(table):
    figure = reliability_panels({"full": [table], "empty": [ReliabilityTable.empty(4)]})
    assert figure.axes[1].get_title() == "empty\nno pairs"


def test_titles_of_panels_do_not_overlap(table):
    names = [f"soft-gaussian + temperature, the {index}th (expected)" for index in range(8)]
    figure = reliability_panels({name: [table] for name in names}, title="x")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [axes.title.get_window_extent(canvas.get_renderer()) for axes in figure.axes]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
        assert box.x0 > 0
        assert box.x1 < figure.bbox.x1


@pytest.mark.parametrize("methods", [{}, {"a": []}], ids=["no-method", "no-run"])
def test_panels_need_tables(methods):
    with pytest.raises(ValueError, match="'methods' must hold a table or more for each method"):
        reliability_panels(methods)
