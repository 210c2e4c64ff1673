"""The poreseg command: what a user does around a build, or without one."""

import shlex
import sys
import warnings
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from poreseg.config import check_params, read_params
from poreseg.devices import processors
from poreseg.errors import PoresegError, PoresegWarning, nearest, told_in_one_line
from poreseg.images.scale import digits, micrometres
from poreseg.names import unique
from poreseg.split import split_study
from poreseg.study import USER_STUDY, read_study

app = typer.Typer(
    help="Pore segmentation from a few labelled images.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip
console = Console(width=None if sys.stdout.isatty() else 160)  # a log needs no wrapping
# table columns that hold text
TEXT = ("size", "um/px", "specimen", "role", "label", "understood as")
ParamsFile = Annotated[
    Path | None,
    typer.Option(help="A params.yaml; else the one in this folder, else the project's."),
]


def _micrometres(text: str) -> float:
    """The micrometres of --pixel-size-um; `PoresegError` unless above 0."""
    size = micrometres(text, "um")
    if size is None:
        raise PoresegError(f"--pixel-size-um is '{text}'; wanted a number above 0")
    return size


def main() -> None:
    """Entry point: a user error prints one line and exits with status 1."""
    with told_in_one_line():
        app()


@app.command()
def predict(
    images: Annotated[
        list[Path], typer.Argument(help="Images in any supported format.", metavar="IMAGE...")
    ],
    model: Annotated[
        list[Path],
        typer.Option(
            "--model", "-m", help="A model folder, e.g. results/model/all; if repeated, their mean."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")],
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Pore from this probability; else the model's own, 0.5 for images unlike those of training."
        ),
    ] = None,
    pixel_size_um: Annotated[
        float | None,
        typer.Option(help="Side of a pixel in micrometres.", metavar="FLOAT", parser=_micrometres),
    ] = None,
    channel: Annotated[
        list[int] | None,
        typer.Option(
            help="Channel or band to read, counted from 1; given three times: red, green and blue."
        ),
    ] = None,
    plane: Annotated[int | None, typer.Option(help="Plane of a stack, from 1.", min=1)] = None,
    data_bar_px: Annotated[
        int | None, typer.Option(help="Rows at the bottom that are a data bar.", min=0)
    ] = None,
    params: ParamsFile = None,
) -> None:
    """Predict images outside a study: masks, overlays with pores in blue, porosity."""
    from poreseg.analysis.morphometry import measure
    from poreseg.images.ingest import ingest
    from poreseg.images.raster import source_of
    from poreseg.plan import recorded
    from poreseg.prediction.engine import load
    from poreseg.prediction.predict import predict_with
    from poreseg.prediction.segment import segment

    settings = read_params(params or _default_params())
    if threshold is not None:
        given = settings.model_dump(mode="json")
        given["segment"]["threshold"] = threshold
        settings = check_params(given, "--threshold")
    names = unique(images, "images")
    if recorded(out):
        raise PoresegError(f"{out} holds the results of a build, with which these would mix; name another folder")  # fmt: skip
    models = [load(folder, processors()) for folder in model]  # fails early if one is wrong
    stretches = {(m.card["low_percentile"], m.card["high_percentile"]) for m in models}
    if len(stretches) > 1:
        raise PoresegError(f"--model: these see gray levels by different percentiles, {sorted(stretches)}; name models of one build")  # fmt: skip
    ((low, high),) = stretches
    reading = settings.ingest.model_dump() | {"low_percentile": low, "high_percentile": high}
    failed: dict[str, str] = {}
    for name, image in names.items():
        probabilities, mask = (out / kind / f"{name}.tif" for kind in ("probabilities", "masks"))
        with TemporaryDirectory() as scratch:  # one per image: hundreds take much space
            raster = Path(scratch) / f"{name}.tif"
            try:
                ingest(
                    image, raster, channel=channel, plane=plane, data_bar_px=data_bar_px, **reading
                )
            except PoresegError as error:  # go on with the other images
                failed[name] = str(error)
                continue
            if mask.is_file() and source_of(mask) != source_of(raster):
                failed[name] = f"{image}: {mask} was not made from this very file; remove it, rename the image, or name another folder"  # fmt: skip
                continue
            predict_with(models, raster, probabilities, **settings.predict.model_dump())
            segment(probabilities, raster, mask, out / "overlays" / f"{name}.png",
                    out / "polygons" / f"{name}.geojson",
                    pixel_size_um=pixel_size_um, **settings.segment.model_dump())  # fmt: skip
        measure(mask, out / "pores" / f"{name}.csv", **settings.measure.model_dump())
    if done := names.keys() - failed:
        _write_tables(out)
        _print_porosity(out / "porosity.csv", done)
        console.print(f"masks in {out / 'masks'}, pores in blue in {out / 'overlays'}")
    for message in failed.values():
        _say(f"error: {message}", "red")
    if failed:
        raise typer.Exit(1)


@app.command()
def check(
    study: Annotated[Path | None, typer.Argument(help="A study folder; else data/raw.")] = None,
    params: ParamsFile = None,
    sheet: Annotated[Path, typer.Option(help="PNG to write: all labels over their images.")] = Path(
        "results/check.png"
    ),
) -> None:
    """Read a whole study without training: report and show how each file is understood."""
    from PIL import Image

    from poreseg.check import check_sample, contact_sheet

    if sheet.suffix.lower() not in Image.registered_extensions():
        raise PoresegError(f"--sheet: {sheet} is no picture; name a .png or .jpg")
    settings = read_params(params or _default_params())
    folder = study or USER_STUDY
    split = split_study(read_study(folder), folder, **settings.split.model_dump())
    table = _table(
        "image", "size", "um/px", "specimen", "role", "label", "understood as", "pores", "porosity"
    )
    problems, cells, frames = [], [], []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", PoresegWarning)
        for sample in split.samples:
            try:
                found = check_sample(sample, settings)
                table.add_row(*map(escape, found.row))
                frames += [f"{sample.name}: no specimen: {found.frame}"] if found.frame else []
                cells.append(found.picture)
            except PoresegError as error:
                problems.append(str(error))
                name, specimen = escape(sample.name), escape(sample.specimen)
                table.add_row(name, "", "", specimen, sample.role, "", "[red]cannot be used[/]")
    console.print(table)
    for frame in frames:
        _say(frame)
    for warning in told:
        if issubclass(warning.category, PoresegWarning):
            _say(f"warning: {warning.message}", "yellow")
    for problem in problems:
        _say(f"error: {problem}", "red")
    if cells:
        contact_sheet(cells, sheet)
        _say(f"labels over their images: {sheet}")
    if problems:
        raise PoresegError(
            f"{len(problems)} of {len(split.samples)} images cannot be used, see above"
        )
    command = ["snakemake", "--cores", "all"]
    if folder.resolve() != USER_STUDY.resolve():  # results hold one study
        where = folder if folder.is_absolute() else f"./{folder}"  # 20250312 would be a number
        command += ["--config", f"study={where}", f"results=results-{folder.resolve().name}"]
    _say(f"{folder}: ready to run: {shlex.join(command)}")


@app.command()
def convert(
    label: Annotated[
        list[Path],
        typer.Argument(help="A label in any supported format, or OME-TIFF masks, one per class."),
    ],
    image: Annotated[Path, typer.Option(help="The image that it belongs to.")],
    to: Annotated[str, typer.Option(help="mask, geojson, labelme or coco.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    plane: Annotated[int | None, typer.Option(help="Plane of a stack, from 1.", min=1)] = None,
    params: ParamsFile = None,
) -> None:
    """Write a label in another format, e.g. to correct a mask in the labelling tool."""
    from poreseg.labels import convert as conversion
    from poreseg.labels.label import Classes
    from poreseg.labels.write import FORMS

    if to not in FORMS:
        raise PoresegError(f"--to {to}{nearest(to, FORMS)}; wanted {', '.join(FORMS)}")
    if out.resolve() in {path.resolve() for path in (*label, image)}:
        raise PoresegError(f"{out} is an input as well; name another file")
    classes = Classes(**read_params(params or _default_params()).rasterise.model_dump())
    understood = conversion.convert(label, image, to, out, plane, classes)
    _say(f"{label[0]} ({understood}) is in {out}")


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A model folder, e.g. results/model/all.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    form: Annotated[str, typer.Option("--format", help="onnx is the only one.")] = "onnx",
) -> None:
    """Write a model for other programs: from stretched pixels to probabilities."""
    import torch

    from poreseg.learning.model import export_onnx, load_model

    if form != "onnx":
        raise PoresegError(f"--format {form}; wanted onnx")
    if out.is_dir():
        raise PoresegError(f"{out} is a folder; name a file, e.g. {out / 'pores.onnx'}")
    export_onnx(load_model(model, torch.device("cpu")), out)
    _say(f"{out}: windows (n, height, width, 3) uint8 in, probabilities (n, height, width) out")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to write it to.")] = Path("data/demo"),
) -> None:
    """Write the demo study: 17 synthetic images of four modalities, labels in three formats."""
    from poreseg.drawn.study import draw_study, files

    own = set(map(Path, files(folder)))
    if others := [path for path in folder.rglob("*") if path.is_file() and path not in own]:
        raise PoresegError(f"{folder} holds other files ({others[0].name}); name a new folder")
    draw_study(folder)
    console.print(f"demo study in {folder}")


@app.command()
def summary(
    results: Annotated[Path, typer.Argument(help="A results folder.")] = Path("results"),
) -> None:
    """Print where a build's page and masks are, and its IoU."""
    from poreseg.build import summary as summarise

    console.print(summarise(results), highlight=False)


def _default_params() -> Path:
    """The params.yaml of the working directory, else that of the poreseg checkout."""
    here = Path("params.yaml")
    return here if here.is_file() else Path(__file__).parents[2] / "params.yaml"


def _say(message: str, style: str | None = None) -> None:
    console.print(message, style=style, highlight=False, soft_wrap=True, markup=False)


def _table(first: str, *columns: str) -> Table:
    """A table without lines, numbers right-aligned."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="left" if column in TEXT else "right",
                         no_wrap=column != "understood as")  # fmt: skip
    return table


def _length(value: float, unit: str) -> str:
    return f"{digits(value)} {unit}" if np.isfinite(value) else "none"


def _write_tables(out: Path) -> None:
    """Write porosity.csv and pore-sizes.csv of all masks in a folder, also of earlier calls."""
    from poreseg.analysis.morphometry import measure_all

    tables = {path.stem: path for path in sorted((out / "pores").glob("*.csv"))}
    masks = {name: out / "masks" / f"{name}.tif" for name in tables}
    kept = [name for name in tables if masks[name].is_file()]
    measure_all(kept, [masks[name] for name in kept], [tables[name] for name in kept],
                out / "porosity.csv", out / "pore-sizes.csv")  # fmt: skip


def _print_porosity(path: Path, images: Collection[str]) -> None:
    from poreseg.tables import read_table

    table = _table("image", "porosity", "pores", "area-weighted median diameter", "")
    found = read_table(path)
    for _, row in found[found["image"].isin(images)].iterrows():
        unit = "um" if np.isfinite(row["pixel_size_um"]) else "px"
        table.add_row(escape(row["image"]), f"{100 * row['porosity']:.1f} %", str(row["pores"]),
                      _length(row[f"area_weighted_median_diameter_{unit}"], unit), "strange" if row["strange"] else "")  # fmt: skip
    console.print(table)
