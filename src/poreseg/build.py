"""Before and after a build: record its images, remove outdated results, summarise the rest."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poreseg.errors import PoresegError
from poreseg.files import TEMPORARY, read_json
from poreseg.metrics import METHODS, ROLES
from poreseg.plan import Plan, record, recorded

MODEL = re.compile(r"fold-\d+|all")  # names of model folders
PER_IMAGE = {  # folders under results/ that hold one file per image
    "rasters": ".tif", "labels": ".tif", "tiles": ".csv", "probabilities": ".tif", "masks": ".tif",
    "overlays": ".png", "errors": ".png", "polygons": ".geojson", "pores": ".csv",
}  # fmt: skip

LOGGED = ("ingest", "rasterise", "tile", "predict", "segment", "measure")  # a file per image


def begin(plan: Plan) -> None:
    """Record the images of a build, so that a later one can remove their results.

    Also report changed test images: scores then do not compare with the last complete build's.
    """
    before, now = recorded(Path(plan.results)), _roles(plan)
    record(Path(plan.results), plan.study.folder, dict.fromkeys(now) | before)
    tested, test = ({name for name in roles if roles[name] == "test"} for roles in (before, now))
    if tested and tested != test and before.keys() & now.keys():  # else another study's
        told = [f"{what} {', '.join(sorted(names))}"
                for what, names in (("with", test - tested), ("without", tested - test)) if names]  # fmt: skip
        print(f"the test images differ from those of the last whole build, now {' and '.join(told)}: scores cannot be compared; "
              "split in samples.csv says which images are for test")  # fmt: skip


def _roles(plan: Plan) -> dict[str, str | None]:
    """Role of each image."""
    return {sample.name: sample.role for sample in plan.study.samples}


def prune(plan: Plan) -> list[str]:
    """Remove results of images, labels and models that are no longer part of the build.

    Results mirror the study: without this, masks of the demo would lie among a user's own.
    An image's results are removed only if a build has recorded it; checkpoints and
    unfinished files go too. Returns the names of images that left the study.
    """
    study, known = plan.study, recorded(Path(plan.results))
    of_some = {"labels": study.labelled, "errors": study.labelled, "tiles": study.for_training}
    for folder, suffix in PER_IMAGE.items():
        for name in known.keys() - of_some.get(folder, study.names):
            Path(plan.at(f"{folder}/{name}{suffix}")).unlink(missing_ok=True)
    for name in known.keys() - study.names:
        for verb in LOGGED:
            Path(plan.at(f"logs/{verb}/{name}.log")).unlink(missing_ok=True)
    for folder, suffix in (("model", ""), ("history", ".csv")):
        wanted = {name + suffix for name in plan.models}
        for path in Path(plan.at(folder)).glob("*"):
            if path.name not in wanted and MODEL.fullmatch(path.name.removesuffix(suffix)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(plan.at(".checkpoints"), ignore_errors=True)  # all trainings are done
    record(Path(plan.results), plan.study.folder, _roles(plan))
    for left in Path(plan.results).rglob(".*"):  # unfinished, by a killed job
        if TEMPORARY.match(left.name) and left.stat().st_mtime < plan.began:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return sorted(known.keys() - set(study.names))


def finish(plan: Plan) -> None:
    """End a build: remove outdated results and print where the results are.

    A partial build (--until, or a file as target) removes and prints nothing.
    """
    last = Path(plan.at("tracked.json"))
    if not last.is_file() or last.stat().st_mtime < plan.began:
        return
    if gone := prune(plan):
        print(f"removed the results of {len(gone)} images that are no longer in the study")
    print(f"  study  {plan.study.folder}, {len(plan.study.names)} images")
    print(summary(plan.results))


def summary(results: Path | str) -> str:
    """Paths of page and masks, IoU by role and of the baselines, and a fallback encoder, a line each.

    Raises
    ------
    PoresegError
        There are no scores yet.
    """
    results = Path(results)
    metrics = results / "metrics.json"
    if not metrics.is_file():
        raise PoresegError(f"{metrics} is not there yet: run snakemake --cores all")
    scores = read_json(metrics)
    lines = [f"  page   {results / 'report' / 'index.html'}"]
    lines += [f"  masks  {results / 'masks'}/  (pores in blue: {results / 'overlays'}/)"]
    for role in ROLES:
        if scores[role]["images"] or role == "test":  # report if there are none
            lines.append(f"  {_score_line(role, scores[role])}")
    beside = [
        f"{METHODS[method]} {_figure(found['test']['iou_mean'])}"
        for method, found in scores["baselines"].items()
    ]
    lines.append(f"  without a network, on the same test images: {', '.join(beside)}")
    if (encoder := scores["encoder"]) != (wanted := scores["encoder_wanted"]):
        lines.append(f"  {encoder} in place of {wanted}; once its weights can be had: snakemake --cores all --forcerun encoder")  # fmt: skip
    return "\n".join(lines)


def _score_line(role: str, score: Mapping[str, Any]) -> str:
    scored = score["images"] - score["images_without_iou"]
    line = f"IoU    {_figure(score['iou_mean'])}  {role}, mean of {scored} images"
    if score["images"] > score["specimens"]:
        line += f" of {score['specimens']} specimen{'s' * (score['specimens'] > 1)}"
    low, high = score["iou_ci95"] or (None, None)
    return line if low is None else f"{line} (95 % interval {_figure(low)} to {_figure(high)})"


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
