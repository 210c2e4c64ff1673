"""Scores against tables worked by hand."""

import numpy as np
import pytest

from poreseg.analysis.evaluate import (
    calibration_curve,
    calibration_error,
    count_probabilities,
    threshold_curve,
)  # fmt: skip
from poreseg.analysis.objects import boundary_iou, median_diameter, object_f1
from poreseg.images.raster import write_raster
from poreseg.metrics import Counts, count, interval, mean, summarise


@pytest.mark.parametrize(
    ("predicted", "label", "counts", "iou", "dice", "precision", "recall", "porosity", "truth"),
    [
        # 2 hit, 1 false, 1 missed, 4 matrix; 8 known
        ([1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0], (2, 1, 1, 4), 2 / 4, 4 / 6, 2 / 3, 2 / 3, 3 / 8, 3 / 8),
        # unknown pixels count nowhere
        ([1, 1, 0, 0], [255, 1, 255, 0], (1, 0, 0, 1), 1, 1, 1, 1, 1 / 2, 1 / 2),
        # pores where there are none
        ([1, 0, 0, 0], [0, 0, 0, 0], (0, 1, 0, 3), None, None, 0, None, 1 / 4, 0),
        # nothing found
        ([0, 0, 0, 0], [1, 1, 0, 0], (0, 0, 2, 2), 0, 0, None, 0, 0, 2 / 4),
        # an empty image scores nothing, not 1
        ([0, 0, 0, 0], [0, 0, 0, 0], (0, 0, 0, 4), None, None, None, None, 0, 0),
        # nothing is known
        ([1, 0], [255, 255], (0, 0, 0, 0), None, None, None, None, None, None),
    ],
)  # fmt: skip
def test_hand_worked_scores(
    predicted, label, counts, iou, dice, precision, recall, porosity, truth
):
    found = count(np.array([predicted], bool), np.array([label], np.uint8))
    assert found == Counts(*counts)
    assert (found.iou, found.dice, found.precision, found.recall) == (iou, dice, precision, recall)
    assert (found.porosity, found.label_porosity) == (porosity, truth)


def test_pooled_scores_count_pixels_and_means_count_images():
    found = summarise([Counts(1, 1, 0, 0), Counts(6, 0, 2, 0)], ["a", "a"])
    assert found["iou_mean"] == pytest.approx((1 / 2 + 6 / 8) / 2)
    assert found["iou_pooled"] == pytest.approx(7 / 10)
    assert (found["images"], found["specimens"]) == (2, 1)


def test_an_undefined_image_is_left_out_of_the_mean_and_told():
    found = summarise([Counts(1, 1, 0, 0), Counts(0, 0, 0, 9)], ["a", "b"])
    assert (found["iou_mean"], found["images"], found["images_without_iou"]) == (0.5, 2, 1)
    assert found["iou_ci95"] is None


def test_no_images_give_null():
    found = summarise([], [])
    assert found["images"] == 0
    assert [found[k] for k in ("iou_mean", "iou_ci95", "iou_pooled", "dice_mean")] == [None] * 4
    assert mean([None, None]) is None


@pytest.mark.parametrize("specimens", [2, 4, 10])
def test_the_interval_holds_the_true_mean_in_95_of_100_cases(specimens):
    draw = np.random.default_rng(0)
    found = [interval([*draw.normal(0.7, 0.1, specimens)], [*map(str, range(specimens))]) for _ in range(2000)]  # fmt: skip
    assert np.mean([low <= 0.7 <= high for low, high in found]) == pytest.approx(0.95, abs=0.015)


def test_the_interval_holds_the_mean_and_narrows_with_images():
    draw = np.random.default_rng(0)
    few, many = draw.uniform(0.4, 0.9, 5).tolist(), draw.uniform(0.4, 0.9, 200).tolist()
    wide, narrow = (interval(ious, [*map(str, range(len(ious)))]) for ious in (few, many))
    assert wide[0] < np.mean(few) < wide[1]
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 2


def test_images_of_one_specimen_count_together():
    assert interval([0.2, 0.4, 0.6, None], [*"aaab"]) is None  # of one specimen
    once = interval([0.2, 0.4, 0.6, 0.9], [*"abcd"])
    assert interval([0.2, 0.4, 0.6, 0.9] * 2, [*"abcdabcd"]) == pytest.approx(once)
    # sums 0.9 and 0.9 of 3 and 1 images: mean 0.45, residuals -0.45 and 0.45, t 12.706
    reach = 12.706 * (2 * 2 * 0.45**2 / 4**2) ** 0.5
    assert interval([0.2, 0.3, 0.4, 0.9], [*"aaab"]) == pytest.approx([0.45 - reach, 0.45 + reach], rel=1e-3)  # fmt: skip


def test_an_iou_interval_ends_at_0_and_1():
    found = summarise([Counts(1, 9, 0, 0), Counts(9, 1, 0, 0)], ["a", "b"])
    assert found["iou_ci95"] == [0, 1]


def test_false_pores_where_there_are_none_leave_the_mean_to_the_same_images():
    cautious, rash = ([Counts(6, 2, 2, 0), Counts(0, false, 0, 9)] for false in (0, 4))
    of = ["a", "b"]
    assert summarise(cautious, of)["iou_mean"] == summarise(rash, of)["iou_mean"] == 0.6
    assert summarise(cautious, of)["iou_pooled"] > summarise(rash, of)["iou_pooled"]
    assert (
        summarise(cautious, of)["precision_mean"] == summarise(rash, of)["precision_mean"] == 0.75
    )


def test_porosity_is_off_in_either_direction_and_on_average():
    much, little = Counts(2, 2, 0, 6), Counts(3, 0, 1, 6)  # 4 in place of 2 of 10, 3 in place of 4
    unknown = Counts()
    found = summarise([much, little, unknown], ["a", "b", "c"])
    assert found["porosity_error_mean"] == pytest.approx((0.2 + 0.1) / 2)
    assert found["porosity_bias"] == pytest.approx((0.2 - 0.1) / 2)


def test_who_finds_nothing_in_an_image_has_no_precision_there():
    blind = [Counts(6, 2, 2, 0), Counts(0, 0, 4, 9)]
    assert summarise(blind, ["a", "b"])["precision_mean"] == 0.375


def test_the_threshold_curve_is_the_iou_at_that_threshold(tmp_path):
    draw = np.random.default_rng(3)
    label = draw.choice(np.array([0, 1, 255], np.uint8), (40, 50))
    probability = np.clip(draw.normal(0.3 + 0.4 * (label == 1), 0.2), 0, 1).astype(np.float32)
    write_raster(tmp_path / "p.tif", probability)
    write_raster(tmp_path / "l.tif", label)
    curve = threshold_curve(
        count_probabilities([tmp_path / "p.tif"], [tmp_path / "l.tif"], ["test"])
    )
    for threshold in (0.05, 0.5, 0.87):
        row = curve[np.isclose(curve["threshold"], threshold)]
        assert row["iou_pooled"].item() == pytest.approx(count(probability >= threshold, label).iou)


def test_the_calibration_curve_of_a_hand_worked_case():
    pore, matrix = np.zeros(1000, np.int64), np.zeros(1000, np.int64)
    pore[824], matrix[824] = 3, 1  # a probability of 0.8245 that means 0.75
    pore[104], matrix[194] = 1, 1  # of 0.1045 and 0.1945 that mean 0.5
    curve = calibration_curve({"test": (pore, matrix), "train": (0 * pore, 0 * matrix)})
    assert curve["role"].unique().tolist() == ["test"]
    assert curve["probability"].tolist() == pytest.approx([0.1495, 0.8245])
    assert curve["pore_share"].tolist() == [0.5, 0.75]
    assert curve["pixels"].tolist() == [2, 4]
    assert calibration_error(curve, "test") == pytest.approx((2 * 0.3505 + 4 * 0.0745) / 6)
    assert calibration_error(curve, "train") is None


# outlines and single pores


def squares(*places, side=8, shape=(40, 40)):
    mask = np.zeros(shape, bool)
    for row, col in places:
        mask[row : row + side, col : col + side] = True
    return mask


def test_boundary_iou_by_hand():
    """Rings of 48 px; moved by one column they share 4 rows of 7 px and 4 rows of 2."""
    label = squares((10, 10)).astype(np.uint8)
    assert boundary_iou(label == 1, label) == 1
    assert boundary_iou(squares((10, 11)), label) == 36 / (48 + 48 - 36)


def test_a_pore_cut_by_the_border_or_the_unknown_has_no_outline_there():
    label = np.zeros((20, 20), np.uint8)
    label[:, :10] = 1
    assert boundary_iou(label == 1, label) == 1
    wider = label.copy()
    wider[:, 10:] = 255
    assert boundary_iou(np.ones((20, 20), bool), wider) is None


def test_median_diameter_by_hand():
    """Pores of 1, 4 and 9 px: half of the area is in the largest; two of 4 px touch at a corner."""
    pore = np.zeros((9, 12), bool)
    pore[0, 0] = pore[2:4, 0:2] = pore[0:3, 4:7] = True
    assert median_diameter(pore, 1, 2) == pytest.approx(np.sqrt(4 * 9 / np.pi))
    pore[0:3, 4:7] = False
    pore[4:6, 2:4] = True
    assert median_diameter(pore, 1, 2) == pytest.approx(np.sqrt(4 * 8 / np.pi))
    assert median_diameter(pore, 1, 1) == pytest.approx(np.sqrt(4 * 4 / np.pi))
    assert median_diameter(pore, 9, 2) is None


def test_object_f1_by_hand():
    label = squares((2, 2), (20, 2), (2, 20)).astype(np.uint8)
    assert object_f1(label == 1, label) == 1
    found = squares((2, 2), (20, 5), (30, 30))  # one hit, one that shares 40 of 88, one false
    assert object_f1(found, label) == pytest.approx(2 * 1 / (3 + 3))
    label[30:, 30:] = 255
    assert object_f1(found, label) == pytest.approx(2 * 1 / (2 + 3))
    assert object_f1(np.zeros((4, 4), bool), np.zeros((4, 4), np.uint8)) is None


def test_specks_that_segment_leaves_out_are_not_missed():
    label = squares((2, 2)).astype(np.uint8)
    found = label == 1
    label[30, 30:33] = 1  # 3 px
    assert object_f1(found, label) == pytest.approx(2 * 1 / (1 + 2))
    assert object_f1(found, label, 4) == 1
    assert object_f1(found, label, 3) == pytest.approx(2 * 1 / (1 + 2))
