"""Windows cover everything and stay inside; stitching gives back what was cut."""

import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poreseg.images.stitch import stitch, weight
from poreseg.images.stream import ahead
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


corners = st.tuples(st.booleans(), st.booleans())
strides = st.sampled_from([1, 4, 32])


@given(
    height=sizes,
    width=sizes,
    window=windows,
    overlap=st.integers(0, 40),
    stride=strides,
    far=corners,
)
def test_windows_cover_every_pixel(height, width, window, overlap, stride, far):
    seen = np.zeros((height, width), int)
    found = covering(height, width, window, overlap, stride, far)
    assert len({(w.height, w.width) for w in found}) == 1
    for w in found:
        assert w.height % stride == w.width % stride == 0
        start = (
            height - w.row - w.height if far[0] else w.row,
            width - w.col - w.width if far[1] else w.col,
        )
        assert start[0] % stride == start[1] % stride == 0
        inside = w.inside(height, width)
        assert w.height - inside.height < stride
        assert w.width - inside.width < stride
        seen[inside.slices] += 1
    assert seen.min() >= 1
    assert found == sorted(found)


@given(length=sizes, window=windows, overlap=st.integers(0, 40), stride=strides)
def test_neighbours_share_at_least_the_overlap(length, window, overlap, stride):
    found = covering(length, 1, window, overlap, stride)
    for a, b in pairwise(found):
        assert a.row + a.height - b.row >= min(overlap, a.height - stride)


@given(length=sizes, window=windows, overlap=st.integers(0, 40), stride=strides)
def test_windows_share_hardly_more_than_the_overlap(length, window, overlap, stride):
    found = covering(length, 1, window, overlap, stride)
    assert found[0].height <= max(window, stride)
    if overlap < window - 2 * stride:
        computed, shared = sum(w.height for w in found), (len(found) - 1) * (overlap + stride)
        assert computed < length + shared + stride * (len(found) + 1)


@given(height=sizes, width=sizes, size=windows)
def test_the_grid_holds_every_pixel_once(height, width, size):
    seen = np.zeros((height, width), int)
    for w in grid(height, width, size):
        seen[w.slices] += 1
    assert (seen == 1).all()


def _cut(array, window, overlap, stride, far):
    """An array (B, H, W) in windows, what lies beyond it noise."""
    for w in sorted(covering(*array.shape[1:], window, overlap, stride, far)):
        values = np.random.default_rng(0).random((len(array), w.height, w.width), np.float32)
        part = w.inside(*array.shape[1:])
        rows, cols = part.row - w.row, part.col - w.col
        values[:, rows : rows + part.height, cols : cols + part.width] = array[:, *part.slices]
        yield w, values


def _stitched(array, parts, overlap):
    found = list(stitch(*array.shape[1:], parts, overlap, len(array)))
    assert [row for row, _ in found] == np.cumsum([0, *(v.shape[1] for _, v in found)])[
        :-1
    ].tolist()
    return np.concatenate([values for _, values in found], axis=1)


@given(height=sizes, width=sizes, window=windows, overlap=st.integers(0, 40), stride=strides, far=corners,
       bands=st.integers(1, 2), seed=st.integers(0, 99))  # fmt: skip
def test_stitching_the_windows_of_an_array_gives_it_back_to_the_bit(
    height, width, window, overlap, stride, far, bands, seed
):
    array = np.random.default_rng(seed).normal(size=(bands, height, width)).astype(np.float32)
    found = _stitched(array, _cut(array, window, overlap, stride, far), overlap)
    np.testing.assert_array_equal(found, array)


@given(height=sizes, width=sizes, seed=st.integers(0, 99), share=st.floats(0, 1))
def test_what_no_window_covers_is_nan_and_the_rest_is_as_it_was(height, width, seed, share):
    random = np.random.default_rng(seed)
    array = random.random((1, height, width), np.float32)
    kept = [part for part in _cut(array, 64, 32, 32, (False, False)) if random.random() < share]
    seen = np.zeros((height, width), bool)
    for w, _ in kept:
        seen[w.inside(height, width).slices] = True
    found = _stitched(array, iter(kept), 32)
    np.testing.assert_array_equal(found[0], np.where(seen, array[0], np.nan))


def test_memory_holds_one_row_of_windows():
    array = np.zeros((1, 4000, 64), np.float32)
    blocks = [
        values.shape[1]
        for _, values in stitch(4000, 64, _cut(array, 96, 32, 32, (False, False)), 32)
    ]
    assert max(blocks) <= 96


def test_a_window_weighs_most_inside_and_nowhere_nothing():
    hill = weight(128, 64, 32)
    assert hill[64, 32] == hill.max() == 1
    assert 0 < hill.min() < 1e-6
    np.testing.assert_array_equal(hill, hill[::-1, ::-1])


def test_stages_work_ahead_and_pass_errors_on():
    made = []

    def numbers():
        for n in range(100):
            made.append(n)
            yield n
        raise KeyError("end")

    taken = []
    with pytest.raises(KeyError, match="end"):
        for n in ahead(numbers(), depth=2):
            taken.append(n)
            assert len(made) <= len(taken) + 3  # the taken one, two in the queue, one in the making
    assert taken == list(range(100))


def test_when_the_taker_stops_so_does_the_maker():
    before = threading.active_count()
    stream = ahead(iter(range(10**9)))
    assert next(stream) == 0
    stream.close()
    assert threading.active_count() == before
