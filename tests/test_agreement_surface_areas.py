# SPDX-License-Identifier: Apache-2.0
"""Areas of surfaces between voxels against surface-distance, closed forms and symmetries."""

import itertools
import math

import numpy as np
import pytest
from surface_distance import lookup_tables

from monai_multirater.agreement.surface_areas import neighborhood_areas

SPACINGS = [(1.0, 1.0, 1.0), (2.5, 0.7, 0.7), (0.3, 1.1, 5.0), (7.0, 3.0, 0.5)]


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_all_256_areas_equal_surface_distance(spacing):
    expected = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    assert neighborhood_areas(spacing) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.3, 1.7), (4.0, 0.5)], ids=str)
def test_all_16_contour_lengths_equal_surface_distance(spacing):
    expected = lookup_tables.create_table_neighbour_code_to_contour_length(spacing)
    assert neighborhood_areas(spacing) == pytest.approx(expected, abs=1e-12)


def test_one_axis_counts_the_ends_of_runs():
    assert neighborhood_areas((3.0,)).tolist() == [0, 1, 1, 0]


def test_planes_corners_and_edges_have_their_closed_form():
    areas = neighborhood_areas((2.0, 3.0, 5.0))
    assert areas[0b11110000] == pytest.approx(3 * 5)  # a plane across the first axis
    assert areas[0b11001100] == pytest.approx(2 * 5)
    assert areas[0b10101010] == pytest.approx(2 * 3)
    assert areas[0b11000000] == pytest.approx(5 * math.hypot(1.0, 1.5))  # a rectangle along an edge
    a, b, c = math.hypot(1.0, 1.5), math.hypot(1.0, 2.5), math.hypot(1.5, 2.5)
    half = (a + b + c) / 2
    assert areas[0b10000000] == pytest.approx(math.sqrt(half * (half - a) * (half - b) * (half - c)))  # Heron


@pytest.mark.parametrize("dimensions", [2, 3])
def test_inside_and_outside_are_alike(dimensions):
    areas = neighborhood_areas((0.7, 1.3, 2.1)[:dimensions])
    assert areas == pytest.approx(areas[::-1], abs=1e-13)
    assert areas[0] == areas[-1] == 0
    assert (areas[1:-1] > 0).all()


def test_areas_do_not_depend_on_the_direction_of_an_axis_or_their_order():
    spacing = (0.7, 1.3, 2.1)
    bits = np.arange(256)[:, None] >> np.arange(7, -1, -1) & 1
    blocks = bits.reshape(256, 2, 2, 2)
    weights = 2 ** np.arange(7, -1, -1)
    for order in itertools.permutations(range(3)):
        turned = blocks.transpose(0, *(axis + 1 for axis in order))
        other = neighborhood_areas([spacing[axis] for axis in order])
        for flips in itertools.product((1, -1), repeat=3):
            codes = turned[:, :: flips[0], :: flips[1], :: flips[2]].reshape(256, 8) @ weights
            assert other[codes] == pytest.approx(neighborhood_areas(spacing), abs=1e-13)
