"""The split into training, validation and test images."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from poreseg.errors import PoresegError, warn
from poreseg.study import HOW_TO_FILL, Sample, Study


def split_study(
    samples: Sequence[Sample],
    folder: Path | str,
    *,
    by: str,
    test_fraction: float,
    folds: int,
    validation_fraction: float,
    seed: int,
) -> Study:
    """Give every image its role and fold, keeping groups whole.

    Groups (specimens, or images with ``by="image"``) are sampled in an order that depends only
    on their names and the seed, so that a new image leaves nearly all others where they are
    (a build reports changed test images). Test images are those named in samples.csv; if none
    is, and there are more than two groups, about `test_fraction` of the labelled images.

    Parameters are the `split` section of params.yaml.

    Raises
    ------
    PoresegError
        No labels; one specimen on both sides of the split; too few groups.
    """

    def group(sample: Sample) -> str:
        return sample.specimen if by == "specimen" else sample.name

    labelled = [sample for sample in samples if sample.labels]
    if not labelled:
        raise PoresegError(f"no labels in {Path(folder) / 'labels'}: {HOW_TO_FILL}")
    test = {group(s) for s in labelled if s.role == "test"}
    train = {group(s) for s in labelled if s.role != "test"}
    if by == "specimen" and (both := sorted(test & train)):
        raise PoresegError(
            f"specimen {both[0]} is in training and in test, which would make the score too high: "
            "give its images one split in samples.csv, or set split.by: image in params.yaml"
        )
    order = sorted(train, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())
    images = Counter(group(s) for s in labelled)
    formats = {group(s): s.image.suffix.lower() for s in labelled}
    if not test and len(order) > 2:
        fixed = {group(s) for s in labelled if s.role == "train"}
        free = [name for name in order if name not in fixed]
        wanted = test_fraction * len(labelled)
        alike = dict.fromkeys(free, "")  # formats do not matter for test images
        drawn = _draw(free, images, alike, wanted, keep=2 - len(fixed))
        test, order = set(drawn), [name for name in order if name not in drawn]
    fold_of, count = _folds(order, folds, validation_fraction, images, formats, tested=bool(test))
    if by == "image" and len({s.specimen for s in labelled}) < len(labelled):
        warn(
            "split.by is image: images of one specimen may stand on both sides, so the score is too high"
        )
    if not test:
        why = f"too few {by}s to set one aside" if test_fraction else "split.test_fraction is 0"
        if all(sample.role == "train" for sample in labelled):
            why = "samples.csv gives all of them to training"
        warn(f"no test images: {why}; test scores will be null")

    def assigned(sample: Sample) -> Sample:
        name = group(sample)
        if not sample.labels:
            return sample
        if name in test:
            return replace(sample, role="test")
        held_out = fold_of.get(name)
        return replace(sample, role="train" if held_out is None else "validation", fold=held_out)

    return Study(Path(folder), tuple(assigned(sample) for sample in samples), count)


def _draw(
    order: Sequence[str],
    images: Mapping[str, int],
    formats: Mapping[str, str],
    wanted: float,
    keep: int,
) -> list[str]:
    """Groups with at most `wanted` images together, leaving at least `keep` groups.

    The next one is always the first that fits, of the file format most common among the groups
    left: images of one instrument share a format, and formats of only one or two specimens
    are needed for training. If no group fits at all, the smallest is taken.

    >>> images = {"a": 1, "b": 3, "c": 1, "d": 1, "e": 1}
    >>> formats = {"a": ".jpg", "b": ".tif", "c": ".tif", "d": ".tif", "e": ".jpg"}
    >>> _draw("abcde", images, formats, wanted=2.2, keep=1)
    ['c', 'a']
    """
    left, drawn = list(order), list[str]()
    room = len(order) - max(0, keep)
    while len(drawn) < room:
        taken = sum(images[name] for name in drawn)
        fitting = [name for name in left if taken + images[name] <= round(wanted)]
        if not fitting and not drawn and wanted > 0:
            fitting = [min(left, key=lambda name: images[name])]
        if not fitting:
            break
        common = Counter(formats[name] for name in left)
        drawn.append(max(fitting, key=lambda name: common[formats[name]]))
        left.remove(drawn[-1])
    return drawn


def _folds(
    order: Sequence[str],
    folds: int,
    validation_fraction: float,
    images: Mapping[str, int],
    formats: Mapping[str, str],
    *,
    tested: bool,
) -> tuple[dict[str, int], int]:
    """Fold of each held-out group, and the number of folds; `tested`: there are test images.

    Raises
    ------
    PoresegError
        No training images; nothing to validate on; more folds than groups.
    """
    if len(order) == 1 and (tested or images[order[0]] == 1):
        warn(f"{order[0]} is the only specimen to learn from, so nothing is left to choose by: the model of the last step counts")  # fmt: skip
        return {}, 1
    if not order:
        raise PoresegError(
            "no training images: samples.csv gives all labelled ones to test; leave split empty for some"
        )
    if len(order) == 1:
        raise PoresegError(
            f"one specimen only ({order[0]}): nothing to validate on; label images of a second one, or set "
            "split.by: image in params.yaml, whose score is too high"
        )
    count = len(order) if folds == 0 else folds
    if count > len(order):
        raise PoresegError(
            f"split.folds is {folds}, but there are {len(order)} training specimens; "
            f"set at most {len(order)}, or 0 to leave one out"
        )
    if count == 1:
        wanted = validation_fraction * sum(images[name] for name in order)
        return {name: 0 for name in _draw(order, images, formats, wanted, keep=1)}, 1
    fold_of: dict[str, int] = {}
    load = [0] * count
    for name in sorted(order, key=lambda n: -images[n]):  # largest first, into the emptiest fold
        fold_of[name] = load.index(min(load))
        load[fold_of[name]] += images[name]
    return fold_of, count
