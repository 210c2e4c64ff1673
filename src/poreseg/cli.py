"""The poreseg command: what a user does around a build, or without one."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from poreseg.config import Params, read_params
from poreseg.errors import PoresegError, PoresegWarning, told_in_one_line
from poreseg.split import split_study
from poreseg.study import Sample, Study, read_study, stem

app = typer.Typer(
    help="Pore segmentation from a few labelled images.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip
console = Console()


def main() -> None:
    """Entry point: a user's error is one line and status 1."""
    with told_in_one_line():
        app()


@app.command()
def predict(
    images: Annotated[
        list[Path], typer.Argument(help="TIFF, PNG or JPEG images.", metavar="IMAGE...")
    ],
    model: Annotated[
        Path, typer.Option("--model", "-m", help="A model folder, e.g. results/model/fold-0.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")],
    threshold: Annotated[
        float | None, typer.Option(help="Pore from this probability; else the model's own.")
    ] = None,
    pixel_size_um: Annotated[
        float | None, typer.Option(help="Side of a pixel in micrometres.")
    ] = None,
    params: Annotated[Path | None, typer.Option(help="A params.yaml; else the defaults.")] = None,
) -> None:
    """Find the pores in images that the model has not seen: mask, overlay in blue, porosity."""
    import torch

    from poreseg.analysis.morphometry import measure, measure_all
    from poreseg.images.ingest import ingest
    from poreseg.learning.model import load_model
    from poreseg.prediction.predict import predict as predict_raster
    from poreseg.prediction.segment import segment

    settings = read_params(params or _default_params())
    cutoff = threshold if threshold is not None else settings.segment.threshold
    names = _names(images)
    card = load_model(model, torch.device("cpu")).card  # a wrong folder is an error before any work
    levels = {key: card[key] for key in ("low_percentile", "high_percentile")}
    failed = []
    masks: dict[str, Path] = {}
    tables: list[Path] = []
    with TemporaryDirectory() as scratch:
        for name, image in names.items():
            raster, probabilities = (
                Path(scratch) / f"{name}.tif",
                out / "probabilities" / f"{name}.tif",
            )
            mask, table = out / "masks" / f"{name}.tif", out / "pores" / f"{name}.csv"
            try:
                ingest(image, raster, pixel_size_um=pixel_size_um, **levels)
            except PoresegError as error:  # the other images are still done
                failed.append(str(error))
                continue
            predict_raster(raster, [model], probabilities, threads=torch.get_num_threads(),
                           **settings.predict.model_dump())  # fmt: skip
            segment(probabilities, raster, mask, out / "overlays" / f"{name}.png",
                    out / "polygons" / f"{name}.geojson", threshold=cutoff,
                    min_area_px=settings.segment.min_area_px)  # fmt: skip
            measure(mask, table, **settings.measure.model_dump())
            masks[name] = mask
            tables.append(table)
    if masks:
        measure_all(
            list(masks), list(masks.values()), tables, out / "porosity.csv", out / "pore-sizes.csv"
        )
        _print_porosity(out / "porosity.csv")
        console.print(f"masks in {out / 'masks'}, pores in blue in {out / 'overlays'}")
    for message in failed:
        console.print(f"error: {message}", style="red", highlight=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)


@app.command()
def check(
    study: Annotated[Path | None, typer.Argument(help="A study folder; else data/raw.")] = None,
    params: Annotated[Path, typer.Option(help="The params to check with.")] = Path("params.yaml"),
) -> None:
    """Read a whole study, train nothing, and say how each file is understood."""
    settings = read_params(params)
    folder = study or Path("data/raw")
    split = split_study(read_study(folder), folder, **settings.split.model_dump())
    problems = _check_images(split, settings)
    for problem in problems:
        console.print(problem, style="red", highlight=False, soft_wrap=True)
    if problems:
        raise PoresegError(
            f"{len(problems)} of {len(split.samples)} images cannot be used, see above"
        )
    console.print(
        f"{folder}: ready to run: snakemake --cores all --config study={folder}", highlight=False
    )


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to draw it in.")] = Path("data/demo"),
) -> None:
    """Draw the demo study: 17 specimens of four looks with exact labels in three formats."""
    from poreseg.demo.study import draw_study

    if folder.exists() and any(folder.iterdir()) and not (folder / "samples.csv").is_file():
        raise PoresegError(f"{folder} holds other files; name a new folder")
    draw_study(folder)
    console.print(f"demo study in {folder}")


@app.command()
def summary(
    results: Annotated[Path, typer.Argument(help="A results folder.")] = Path("results"),
) -> None:
    """Say where a build's page and masks are, and its IoU."""
    from poreseg.plan import summary as summarise

    console.print(summarise(results), highlight=False)


def _default_params() -> Path:
    """The project's params.yaml: where the command runs, else where poreseg was checked out."""
    here = Path("params.yaml")
    return here if here.is_file() else Path(__file__).parents[2] / "params.yaml"


def _names(images: list[Path]) -> dict[str, Path]:
    """Images by name; two of one name would overwrite each other's results."""
    names: dict[str, Path] = {}
    for image in images:
        name = stem(image)
        if name in names:
            raise PoresegError(
                f"two images are named {name}: {names[name]} and {image}; rename one"
            )
        names[name] = image
    return names


def _check_images(study: Study, settings: Params) -> list[str]:
    """Print one row an image and return the problems."""
    problems: list[str] = []
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("image", "size", "pixels", "specimen", "role", "label", "understood as", "pore"):
        table.add_column(column, justify="right" if column in ("size", "pore") else "left")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", PoresegWarning)
        for sample in study.samples:
            try:
                table.add_row(sample.name, *_row(sample, settings))
            except PoresegError as error:
                problems.append(str(error))
                table.add_row(
                    sample.name,
                    "",
                    "",
                    sample.specimen,
                    sample.role,
                    "",
                    "[red]cannot be used[/]",
                    "",
                )
    console.print(table)
    for warning in told:
        if issubclass(warning.category, PoresegWarning):
            console.print(
                f"warning: {warning.message}", style="yellow", highlight=False, soft_wrap=True
            )
    return problems


def _row(sample: Sample, settings: Params) -> list[str]:
    from poreseg.images.ingest import load_image
    from poreseg.labels.label import Classes, Grid
    from poreseg.labels.rasterise import read_label
    from poreseg.labels.registry import reader_of

    picture = load_image(sample.image)
    height, width = picture.shape
    pixels = f"{picture.bands.shape[0]} x {picture.bands.dtype}"
    row = [f"{width} x {height}", pixels, sample.specimen, sample.role]
    if sample.label is None:
        return [*row, "", "", ""]
    grid = Grid(height, width, picture.crs, picture.transform)
    label = read_label(sample.label, grid, Classes(**settings.rasterise.model_dump()))
    known = label.values[picture.valid & (label.values != 255)]
    share = f"{np.mean(known == 1):.1%}" if known.size else "unknown"
    return [*row, reader_of(sample.label).NAME, label.understood, share]


def _length(value: float, unit: str) -> str:
    return f"{value:.1f} {unit}" if np.isfinite(value) else "none"


def _print_porosity(path: Path) -> None:
    from poreseg.tables import read_table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("image", "porosity", "pores", "median diameter"):
        table.add_column(column, justify="left" if column == "image" else "right")
    for _, row in read_table(path).iterrows():
        unit = "um" if np.isfinite(row["pixel_size_um"]) else "px"
        table.add_row(row["image"], f"{row['porosity']:.1%}", str(row["pores"]),
                      _length(row[f"median_diameter_{unit}"], unit))  # fmt: skip
    console.print(table)
