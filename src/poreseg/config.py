"""The params: one typed, frozen section per verb; unknown keys are errors."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from poreseg.errors import PoresegError, nearest

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy and scikit-learn take
RUN_KEYS = {"study", "results"}  # given on the command line, not in params.yaml


class Section(BaseModel):
    """One section of params.yaml: keyword arguments of one verb's function."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Split(Section):
    by: Literal["specimen", "image"]
    test_fraction: Annotated[float, Field(ge=0, lt=1)]
    folds: Annotated[int, Field(ge=0)]
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed


class Ingest(Section):
    low_percentile: Annotated[float, Field(ge=0, lt=50)]
    high_percentile: Annotated[float, Field(gt=50, le=100)]
    data_bar: Literal["auto", "none"]
    border: Literal["auto", "none"]


class Rasterise(Section):
    pore: list[str | int]
    matrix: list[str | int]
    unknown: list[str | int]
    other: Literal["error", "matrix", "pore", "unknown"]
    value_255: Literal["pore", "unknown"]
    sparse: bool


class Tile(Section):
    size: Annotated[int, Field(ge=32, multiple_of=32)]


class Augment(Section):
    crop: Annotated[int, Field(ge=32, multiple_of=32)]
    scale: tuple[Annotated[float, Field(gt=0.1)], Annotated[float, Field(lt=10)]]
    elastic: Fraction
    brightness: Fraction
    hue: Annotated[float, Field(ge=0, le=0.5)]
    gray: Fraction
    invert: Fraction
    shuffle: Fraction
    blur: Fraction
    noise: Fraction

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale is {list(self.scale)}; wanted [smallest, largest]")
        return self


class Encoder(Section):
    name: str
    weights: Literal["imagenet", "none"]
    file: str | None
    fallback: str | None


class Pretrain(Section):
    steps: Positive
    batch: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    workers: Annotated[int, Field(ge=0)]
    seed: Seed


class Train(Section):
    start: str
    steps: Positive
    minutes: Annotated[float, Field(gt=0)]
    batch: Positive
    pore_share: Fraction
    drawn: Fraction
    learning_rate: Annotated[float, Field(gt=0)]
    encoder_rate: Annotated[float, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    ema: Annotated[float, Field(ge=0, lt=1)]
    validate_every: Positive
    patience: Positive
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    workers: Annotated[int, Field(ge=0)]
    seed: Seed


class Refit(Section):
    steps: Annotated[int, Field(ge=0)]
    learning_rate: Annotated[float, Field(gt=0)]


class Predict(Section):
    window: Annotated[int, Field(ge=32, multiple_of=32)]
    overlap: Annotated[int, Field(ge=0, multiple_of=32)]
    batch: Positive
    tta: Literal["auto", "none", "d4"]
    spread: bool
    polarity: Literal["auto", "keep", "invert"]
    refine: Literal["auto", "always", "never"]

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.overlap >= self.window:
            raise ValueError(f"overlap is {self.overlap}; wanted less than window, {self.window}")
        return self


class Segment(Section):
    threshold: Annotated[float, Field(gt=0, lt=1)] | None
    min_area_px: Annotated[int, Field(ge=0)]


class Baseline(Section):
    pixels: Annotated[int, Field(ge=2)]
    trees: Positive
    seed: Seed


class Measure(Section):
    connectivity: Annotated[int, Field(ge=1, le=2)]  # not Literal, which refuses "2" as text


class Report(Section):
    image_px: Annotated[int, Field(ge=100)]


class Params(Section):
    """Everything in params.yaml."""

    split: Split
    ingest: Ingest
    rasterise: Rasterise
    tile: Tile
    augment: Augment
    baseline: Baseline
    encoder: Encoder
    pretrain: Pretrain
    train: Train
    refit: Refit
    predict: Predict
    segment: Segment
    measure: Measure
    report: Report


def check_params(content: dict[str, Any], where: str = "params.yaml") -> Params:
    """Check params; raise a `PoresegError` that names the first wrong key."""
    try:
        return Params(**{str(key): content[key] for key in content if key not in RUN_KEYS})
    except ValidationError as error:
        raise PoresegError(_say(error.errors()[0], len(error.errors()), where)) from None


def read_params(path: Path | str = "params.yaml") -> Params:
    """Read and check a params file; `PoresegError` if it is unreadable or wrong."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise PoresegError(
            f"{path}: cannot be read ({error}); correct it, or restore it from git"
        ) from None
    if not isinstance(content, dict):
        raise PoresegError(f"{path}: found no sections; restore the file from git")
    return check_params(content, str(path))


def _say(problem: Any, count: int, where: str) -> str:
    """A pydantic error, the first of `count`, as a one-line message."""
    key = ".".join(str(part) for part in problem["loc"])
    more = f" ({count - 1} more wrong)" if count > 1 else ""
    if problem["type"] == "extra_forbidden":
        section: Any = Params
        for part in problem["loc"][:-1]:
            section = section.model_fields[part].annotation
        known = section.model_fields if section is not Params else {*Params.model_fields, *RUN_KEYS}
        hint = nearest(str(problem["loc"][-1]), known)
        return f"{where}: unknown key {key}{hint}; rename or remove it{more}"
    if problem["type"] == "missing":
        return f"{where}: {key} is missing; restore it from params.yaml in git{more}"
    if problem["type"] == "value_error":  # of a section; its message names the values
        return f"{where}: {key}: {problem['ctx']['error']}{more}"
    return f"{where}: {key} is {problem['input']!r}; {problem['msg'].lower().replace('input should be', 'wanted')}{more}"
