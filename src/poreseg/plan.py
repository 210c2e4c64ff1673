"""What a build is to do: the study, the params of each verb and the code it depends on.

The Snakefile asks this module and holds no logic of its own.
"""

import ast
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from poreseg import study as studies
from poreseg.config import Params, check_params
from poreseg.drawn import study as demo
from poreseg.errors import PoresegError, told_in_one_line
from poreseg.files import TEMPORARY, read_json, write_json
from poreseg.metrics import METHODS
from poreseg.split import split_study

DEMO_STEPS = {"train": 150, "refit": 100}  # at most: people wait for the demo study, and it is easy
USER_STUDY = Path("data/raw")
DEMO_STUDY = Path("data/demo")
PACKAGE = Path(__file__).parent
MODEL = re.compile(r"fold-\d+|all")  # names of model folders
WEIGHTS = "model.safetensors"  # as smp names them
PLUMBING = {"errors", "files", "tracking", "devices"}  # they change no results
PER_IMAGE = {  # folders under results/ that hold one file per image
    "rasters": ".tif", "labels": ".tif", "tiles": ".csv", "probabilities": ".tif", "masks": ".tif",
    "overlays": ".png", "errors": ".png", "polygons": ".geojson", "pores": ".csv",
}  # fmt: skip


class Plan:
    """One build: `study`, `results`, `is_demo`, and what the rules need to know.

    Parameters
    ----------
    config
        The merged configuration: the sections of params.yaml, and `study` and `results`
        where they were given.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.began = time.time()
        self.params = check_params(dict(config))
        folder = Path(str(config.get("study") or _default_study()))  # a name may look like a number
        self.results = str(config.get("results") or "results").rstrip("/")
        _check_apart(folder, Path(self.results))
        _check_encoder_file(self.params.encoder.file)
        _check_start(self.params.train.start, Path(self.results))
        self.is_demo = folder.resolve() == DEMO_STUDY.resolve()
        if self.is_demo:
            folder = DEMO_STUDY  # however it was written: its files are made by a rule
            self.params = _in_minutes(self.params)
        samples = demo.samples(DEMO_STUDY) if self.is_demo else studies.read_study(folder)
        self.study = split_study(samples, folder, **self.params.split.model_dump())
        if not self.refits:
            self.params = _without_refit(self.params)

    def settings(self, verb: str) -> dict[str, Any]:
        """The params of one verb alone, so that another verb's knob reruns nothing here.

        Where training starts is no keyword of its function but an input, see `start`.
        """
        section: dict[str, Any] = getattr(self.params, verb).model_dump(mode="json")
        return {key: value for key, value in section.items() if key != "start"}

    def at(self, path: str) -> str:
        """A path under the results folder, wildcards and all."""
        return f"{self.results}/{path}"

    def reading(self, image: str) -> dict[str, Any]:
        """What samples.csv says of how an image is read."""
        s = self.study[image]
        return {"pixel_size_um": s.pixel_size_um, "channel": s.channel, "plane": s.plane,
                "data_bar_px": s.data_bar_px}  # fmt: skip

    @property
    def start(self) -> str:
        """The weights that training starts from."""
        given = self.params.train.start
        own = {
            "encoder": "encoder/weights.safetensors",
            "drawn": "encoder/pretrained/model.safetensors",
        }
        return self.at(own[given]) if given in own else f"{given}/{WEIGHTS}"

    @property
    def cards(self) -> list[str]:
        """Cards of all models."""
        return [self.at(f"model/{name}/poreseg.json") for name in self.models]

    @property
    def histories(self) -> list[str]:
        """Histories of all models."""
        return [self.at(f"history/{name}.csv") for name in self.models]

    @property
    def refits(self) -> bool:
        """Whether a model learns from all training images once one is chosen."""
        held_out = any(sample.role == "validation" for sample in self.study.samples)
        return self.study.folds == 1 and held_out and self.params.refit.steps > 0

    @property
    def models(self) -> list[str]:
        """Names of the model folders, those of the folds first."""
        return [f"fold-{fold}" for fold in range(self.study.folds)] + ["all"] * self.refits

    def models_of(self, image: str) -> list[str]:
        """Model folders that predict an image: none that has learned from it, if it validates."""
        if self.refits and self.study[image].role != "validation":
            return [self.at("model/all")]
        return [self.at(f"model/fold-{fold}") for fold in self.study.seen_by(image)]

    def split_table(self, images: Sequence[str]) -> list[list[Any]]:
        """Image, role and held-out fold of labelled images."""
        return [[name, self.study[name].role, self.study[name].fold] for name in images]


def _in_minutes(params: Params) -> Params:
    """Params for the demo study: fewer steps, judged at their end.

    In so short a training half-way weights are far from done, and would be chosen by luck.
    """
    capped = {}
    for verb, most in DEMO_STEPS.items():
        section = getattr(params, verb)
        capped[verb] = section.model_copy(update={"steps": min(section.steps, most)})
    train = capped["train"]
    capped["train"] = train.model_copy(update={"validate_every": train.steps})
    return params.model_copy(update=capped)


def _without_refit(params: Params) -> Params:
    """Params for a build that refits nothing: its training takes those steps as well.

    So folds learn as much as the one model does that is refitted, which few images need.
    """
    train = params.train.model_copy(update={"steps": params.train.steps + params.refit.steps})
    refit = params.refit.model_copy(update={"steps": 0})
    return params.model_copy(update={"train": train, "refit": refit})


def _check_apart(study: Path, results: Path) -> None:
    """Results within the study would be taken for its images and labels."""
    study, results = study.resolve(), results.resolve()
    if results == study or study in results.parents or results in study.parents:
        raise PoresegError(
            f"results {results} and study {study} lie in each other; name a folder apart"
        )


def _check_encoder_file(file: str | None) -> None:
    if file is not None and not Path(file).is_file():
        raise PoresegError(f"encoder.file: no file {file}; name a .safetensors or .pth file")


def _check_start(start: str, results: Path) -> None:
    if start in ("encoder", "drawn"):
        return
    if not (Path(start) / WEIGHTS).is_file():
        raise PoresegError(
            f"train.start: {start} is no model folder, there is no {WEIGHTS} in it; "
            "name one, or encoder, or drawn"
        )
    if results.resolve() in Path(start).resolve().parents:
        raise PoresegError(
            f"train.start: {start} is what this build writes; copy it, or name another results folder"
        )


def _default_study() -> Path:
    return USER_STUDY if studies.holds_images(USER_STUDY) else DEMO_STUDY


@cache
def sources(verb: str) -> list[str]:
    """The poreseg modules that a verb's script imports, directly or through others.

    They are inputs of the verb's rule: an edited module reruns the verbs that use it and
    no others.
    """
    script = Path("workflow/scripts") / f"{verb}.py"
    found: set[Path] = set()
    todo = _imports(script)
    while todo:
        module = todo.pop()
        if module not in found:
            found.add(module)
            todo |= _imports(module)
    return sorted(str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
                  for path in found)  # fmt: skip


def _imports(path: Path) -> set[Path]:
    """Files of the poreseg modules that one file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "poreseg":
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [str(node.module)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("poreseg.")]
        else:
            continue
        for name in names:
            parts = name.split(".")[1:]
            module = PACKAGE.joinpath(*parts).with_suffix(".py") if parts else None
            if module and module.is_file() and parts[0] not in PLUMBING:
                found.add(module)
    return found


def planned(config: Mapping[str, Any]) -> Plan:
    """The plan of a build; what is wrong with params or study ends it with one line."""
    with told_in_one_line():
        return Plan(config)


def prune(plan: Plan) -> list[str]:
    """Remove the results of images that the study no longer has, and models that the build no longer has.

    Results mirror the study: without this, masks of the demo would lie among a user's own.
    Only images that a build of ours has recorded are removed. Returns their names.
    """
    record = Path(plan.at(".images.json"))
    before = read_json(record) if record.is_file() else []
    gone = sorted(set(before) - set(plan.study.names))
    for name in gone:
        for folder, suffix in PER_IMAGE.items():
            Path(plan.at(f"{folder}/{name}{suffix}")).unlink(missing_ok=True)
    for folder, suffix in (("model", ""), ("history", ".csv")):
        wanted = {name + suffix for name in plan.models}
        for path in Path(plan.at(folder)).glob("*"):
            if path.name not in wanted and MODEL.fullmatch(path.name.removesuffix(suffix)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(plan.at(".checkpoints"), ignore_errors=True)  # all trainings are done
    write_json(record, plan.study.names)
    for left in Path(plan.results).rglob(".*"):  # by a job that was killed before this build
        if TEMPORARY.match(left.name) and left.stat().st_mtime < plan.began:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    return gone


def finish(plan: Plan) -> None:
    """End a build: remove what the study no longer holds and say where the results are.

    A build of a part of the results, with --until or a file as its target, leaves all as it is.
    """
    last = Path(plan.at("tracked.json"))
    if not last.is_file() or last.stat().st_mtime < plan.began:
        return
    if gone := prune(plan):
        print(f"removed the results of {len(gone)} images that are no longer in the study")
    print(summary(plan.results))


def summary(results: Path | str) -> str:
    """Where the page, the masks and the scores are, and the IoU by role, a line each."""
    results = Path(results)
    metrics = results / "metrics.json"
    if not metrics.is_file():
        raise PoresegError(f"{metrics} is not there yet: run snakemake --cores all")
    scores = read_json(metrics)
    lines = [f"  page   {results / 'report' / 'index.html'}"]
    lines += [f"  masks  {results / 'masks'}/  (pores in blue: {results / 'overlays'}/)"]
    for role in ("train", "validation", "test"):
        if scores[role]["images"] or role == "test":  # that none judge is worth a line
            lines.append(f"  {_score_line(role, scores[role])}")
    beside = [
        f"{METHODS[method]} {_figure(found['test']['iou_mean'])}"
        for method, found in scores["baselines"].items()
    ]
    lines.append(f"  on the test images without a network: {', '.join(beside)}")
    return "\n".join(lines)


def _score_line(role: str, score: Mapping[str, Any]) -> str:
    low, high = score["iou_ci95"] or (None, None)
    return f"IoU    {_figure(score['iou_mean'])}  {role}, mean of {score['images']} images" + (
        f" (95 % interval {_figure(low)} to {_figure(high)})" if low is not None else ""
    )


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
