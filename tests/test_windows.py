"""Windows cover everything and stay inside; stitching gives back what was cut."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poreseg.images.stitch import stitch, weight
from poreseg.images.windows import covering, grid, starts

sizes = st.integers(1, 300)
windows = st.integers(1, 96)
overlaps = st.floats(0, 0.75)


def test_starts_are_evenly_spread():
    assert starts(110, 64, 32) == [0, 23, 46]


@pytest.mark.parametrize(("length", "window", "step"), [(0, 4, 1), (4, 0, 1), (9, 4, 0), (9, 4, 5)])
def test_impossible_geometry_is_refused(length, window, step):
    with pytest.raises(ValueError, match="wanted 1 <= step <= window"):
        starts(length, window, step)


@given(length=sizes, window=windows, overlap=overlaps)
def test_starts_stay_inside_and_leave_no_gap(length, window, overlap):
    step = max(1, round(window * (1 - overlap)))
    found = starts(length, window, step)
    assert found[0] == 0
    assert found[-1] == max(0, length - window)
    assert all(0 < b - a <= step for a, b in pairwise(found))


@given(height=sizes, width=sizes, window=windows, overlap=overlaps)
def test_windows_cover_every_pixel(height, width, window, overlap):
    seen = np.zeros((height, width), int)
    for w in covering(height, width, window, overlap):
        assert (
            seen[w.slices].shape == (w.height, w.width) == (min(window, height), min(window, width))
        )
        seen[w.slices] += 1
    assert seen.min() >= 1


@given(height=sizes, width=sizes, size=windows)
def test_the_grid_holds_every_pixel_once(height, width, size):
    seen = np.zeros((height, width), int)
    for w in grid(height, width, size):
        seen[w.slices] += 1
    assert (seen == 1).all()


@given(height=sizes, width=sizes, window=windows, overlap=overlaps, seed=st.integers(0, 99))
def test_stitching_the_windows_of_an_array_gives_it_back(height, width, window, overlap, seed):
    array = np.random.default_rng(seed).random((height, width), np.float32)
    cut = ((w, array[w.slices]) for w in covering(height, width, window, overlap))
    np.testing.assert_allclose(stitch(height, width, cut), array, rtol=1e-5)


def test_a_window_weighs_most_in_its_centre_and_nowhere_nothing():
    bell = weight(64, 32)
    assert bell.argmax() in {31 * 32 + 15, 31 * 32 + 16, 32 * 32 + 15, 32 * 32 + 16}
    assert bell.min() > 0
    np.testing.assert_array_equal(bell, bell[::-1, ::-1])
