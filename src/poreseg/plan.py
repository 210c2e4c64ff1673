"""The plan of a build: its study, the params of each verb and the code each depends on.

The Snakefile takes all of it from here and holds no logic of its own.
"""

import ast
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from poreseg import study as studies
from poreseg.config import Params, check_params
from poreseg.drawn import study as demo
from poreseg.errors import PoresegError, first_of, told_in_one_line, warn
from poreseg.files import read_json, write_json
from poreseg.images.companions import fingerprint
from poreseg.images.raster import source_of
from poreseg.learning.card import images_behind
from poreseg.split import split_study
from poreseg.study import USER_STUDY

DEMO_STEPS = {"train": 150, "refit": 100}  # at most: people wait for the demo study, and it is easy
DEMO_STUDY = Path("data/demo")
PACKAGE = Path(__file__).parent
WEIGHTS = "model.safetensors"  # as smp names them
PLUMBING = {"errors", "files", "tracking", "devices"}  # they change no results
RECORD = ".roles.json"  # the study whose results a folder holds, and the roles of its images


class Plan:
    """One build: `study`, `results`, `params`, `is_demo`, and the inputs of its rules.

    Parameters
    ----------
    config
        The merged configuration: the sections of params.yaml, and `study` and `results`
        where they were given.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.began = time.time()
        self.params = check_params(dict(config))
        self.results = (_folder("results", config) or "results").rstrip("/")
        folder = Path(_folder("study", config) or _default_study())
        _check_apart(folder, Path(self.results))
        _check_encoder_file(self.params.encoder.file)
        _check_start(self.params.train.start, Path(self.results))
        self.is_demo = folder.resolve() == DEMO_STUDY.resolve()
        if self.is_demo:
            folder = DEMO_STUDY  # in one spelling: its files are a rule's outputs
        samples = demo.samples(DEMO_STUDY) if self.is_demo else studies.read_study(folder)
        _check_own(Path(self.results), folder, samples)
        self.study = split_study(samples, folder, **self.params.split.model_dump())
        _warn_of_known(self.params.train.start, self.study)
        if self.is_demo:
            self.params = _in_minutes(self.params)
        if not self.refits:
            self.params = _without_refit(self.params)
        if self.is_demo:
            self.params = _validated_at_its_end(self.params)

    def settings(self, verb: str) -> dict[str, Any]:
        """The params of one verb only, so that other verbs' params do not rerun it.

        `train.start` is left out: it is an input of the rule, see `start`. So are `workers`, a
        resource of the rule: they change no result.
        """
        section: dict[str, Any] = getattr(self.params, verb).model_dump(mode="json")
        return {key: section[key] for key in section if key not in ("start", "workers")}

    def at(self, path: str) -> str:
        """A path under the results folder, wildcards and all."""
        return f"{self.results}/{path}"

    def reading(self, image: str) -> dict[str, Any]:
        """Channel, plane and data bar of an image, as in samples.csv."""
        s = self.study[image]
        return {"channel": s.channel, "plane": s.plane, "data_bar_px": s.data_bar_px}

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
        """Whether the model of a single fold is refitted, validation images included."""
        held_out = any(sample.role == "validation" for sample in self.study.samples)
        return self.study.folds == 1 and held_out and self.params.refit.steps > 0

    @property
    def models(self) -> list[str]:
        """Names of the model folders, those of the folds first."""
        return [f"fold-{fold}" for fold in range(self.study.folds)] + ["all"] * self.refits

    def models_of(self, image: str) -> list[str]:
        """Folders of the models that predict an image; none trained on it if it validates."""
        if self.refits and self.study[image].role != "validation":
            return [self.at("model/all")]
        return [self.at(f"model/fold-{fold}") for fold in self.study.folds_for(image)]

    @property
    def specimens_and_roles(self) -> list[tuple[str, str | None]]:
        """Specimen and role of each image; the role is None without a label."""
        return [(s.specimen, s.role if s.labels else None) for s in self.study.samples]

    def split_table(self, images: Sequence[str]) -> list[list[Any]]:
        """Image, role and held-out fold of labelled images."""
        return [[name, self.study[name].role, self.study[name].fold] for name in images]


def _in_minutes(params: Params) -> Params:
    """Params for the demo study: fewer steps."""
    capped = {}
    for verb, most in DEMO_STEPS.items():
        section = getattr(params, verb)
        capped[verb] = section.model_copy(update={"steps": min(section.steps, most)})
    return params.model_copy(update=capped)


def _validated_at_its_end(params: Params) -> Params:
    """Params that validate only at the end: in a short training, earlier weights win by luck."""
    train = params.train.model_copy(update={"validate_every": params.train.steps})
    return params.model_copy(update={"train": train})


def _without_refit(params: Params) -> Params:
    """Params for a build without a refit, whose steps and time go to the training.

    So each model trains as long as one that is refitted, which few images need. `minutes`
    doubles, since a refit has as many of its own.
    """
    longer = {"steps": params.train.steps + params.refit.steps,
              "minutes": params.train.minutes * (2 if params.refit.steps else 1)}  # fmt: skip
    train = params.train.model_copy(update=longer)
    refit = params.refit.model_copy(update={"steps": 0})
    return params.model_copy(update={"train": train, "refit": refit})


def _folder(key: str, config: Mapping[str, Any]) -> str | None:
    """A folder named on the command line; `PoresegError` if Snakemake read it as a number."""
    given = config.get(key)
    if given is not None and not isinstance(given, str):  # 2025_03_12 is 20250312 to Snakemake
        raise PoresegError(f"{key}: its name was read as {given}, not as text; write {key}=./NAME")
    return given


def _check_apart(study: Path, results: Path) -> None:
    """Raise if study and results overlap: results would be read as images and labels."""
    study, results = study.resolve(), results.resolve()
    if results == study or study in results.parents or results in study.parents:
        raise PoresegError(
            f"results {results} and study {study} overlap; name a folder outside the other"
        )


def _check_own(results: Path, study: Path, samples: Sequence[studies.Sample]) -> None:
    """Raise if the results are another study's: a build would remove them (the demo's may go)."""
    others = recorded(results).keys() - {sample.name for sample in demo.samples(DEMO_STUDY)}
    if others and (study == DEMO_STUDY or not _holds(results, study, samples)):
        raise PoresegError(
            f"{results} holds results of another study ({min(others)}, for one), not of {study}: name "
            f"another folder for results (--config results=PATH), their study (--config study=PATH), or remove {results}"
        )


def _holds(results: Path, study: Path, samples: Sequence[studies.Sample]) -> bool:
    """Whether results are a study's: of its folder, or of its images in another place."""
    held = read_json(results / RECORD)
    shared = [sample for sample in samples if sample.name in held["roles"]]
    if held["study"] == str(study):
        return bool(shared)
    made_of = [(source_of(results / "rasters" / f"{s.name}.tif"), s.image) for s in shared]
    return any(source and source == fingerprint([image]) for source, image in made_of)


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


def _warn_of_known(start: str, study: studies.Study) -> None:
    """Warn if the model that training starts from knows specimens that are to judge the new one."""
    behind = images_behind(start)
    known = {sample.specimen for sample in study.samples if sample.name in behind}
    judges = [f"{sample.name} ({sample.role})" for sample in study.samples
              if sample.role in ("validation", "test") and sample.specimen in known]  # fmt: skip
    if judges:
        warn(f"train.start: by their names, {start} has learned from specimens of {first_of(judges)}: their scores will be "
             "too high. Start from another model, or name test images that it does not know (split in samples.csv)")  # fmt: skip


def _default_study() -> Path:
    """The user's study, else the demo's; `PoresegError` if one is begun but has no images."""
    if studies.holds_images(USER_STUDY):
        return USER_STUDY
    begun = [path for path in (USER_STUDY.with_suffix(".dvc"), *sorted(USER_STUDY.rglob("*")))
             if (path.is_file() or path.is_symlink()) and not path.name.startswith(".")]  # fmt: skip
    if any(path.suffix == ".dvc" for path in begun):
        raise PoresegError(f"{USER_STUDY} holds no images yet, but DVC knows of some: run dvc pull")
    if begun:
        raise PoresegError(
            f"{begun[0]} is there, but no image in {USER_STUDY / 'images'}: {studies.HOW_TO_FILL}"
        )
    return DEMO_STUDY


def recorded(results: Path) -> dict[str, str | None]:
    """Images with results in a folder, and their roles in the last complete build, if any."""
    path = results / RECORD
    return dict(read_json(path)["roles"]) if path.is_file() else {}


def record(results: Path, study: Path, roles: Mapping[str, str | None]) -> None:
    """Record whose results a folder holds, see `recorded`."""
    write_json(results / RECORD, {"study": str(study), "roles": dict(roles)})


@cache
def sources(verb: str) -> list[str]:
    """Paths of the poreseg modules that a verb's script imports, directly or not.

    As inputs of the verb's rule they rerun it when edited. `PLUMBING` is left out.
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
    """Files of the poreseg modules, except `PLUMBING`, that a file imports."""
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
    """The plan of a build; a wrong param or study ends the process with one line."""
    with told_in_one_line():
        return Plan(config)
