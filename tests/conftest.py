"""Small specimens that the tests draw themselves, and a project to build them in."""

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import yaml
from numpy.typing import NDArray

from poreseg.drawn.study import SPECIMENS, Specimen, draw_study
from poreseg.images.ingest import ingest
from poreseg.images.raster import write_raster

hypothesis.settings.register_profile("poreseg", deadline=None)  # machines differ in speed
hypothesis.settings.load_profile("poreseg")

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
PLAIN_READING = {
    "low_percentile": 0.0,
    "high_percentile": 100.0,
    "data_bar": "none",
    "border": "none",
}
SMALL = {  # what of the demo study is drawn small: name, height, width
    "section-1": (160, 192), "sem-2": (128, 160), "photo-2": (160, 160), "ct-1": (160, 160),
    "section-5": (130, 150), "sem-4": (128, 300),
}  # fmt: skip


def warnings_of(call: Callable[[], object]) -> list[str]:
    """What a call warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in caught]


def ingest_array(raster: Path, pixels: NDArray[Any], **place: Any) -> None:
    """The canonical raster of an array, black at its least value and white at its largest."""
    raw = raster.with_name(f"raw-{raster.name}")
    write_raster(raw, pixels, **place)
    ingest(raw, raster, **PLAIN_READING)


def small_specimens() -> list[Specimen]:
    """Six specimens of four modalities, two of them for test."""
    shrink = [(s, SMALL[s.name]) for s in SPECIMENS if s.name in SMALL]
    return [
        replace(s, height=height, width=width, forms=(("ellipses", 0.2, 12.0),))
        for s, (height, width) in shrink
    ]


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of six small images in three image and three label formats. Not to be changed."""
    folder = tmp_path_factory.mktemp("study") / "tiny"
    draw_study(folder, small_specimens())
    return folder


@pytest.fixture
def study(tiny_study: Path, tmp_path: Path) -> Path:
    """A copy of the tiny study that a test may spoil."""
    return Path(shutil.copytree(tiny_study, tmp_path / "study"))


class Project:
    """A checkout in which commands run with the very code of this one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, status: int | None = 0) -> str:
        """Run a command; return what it printed. `status` None takes any."""
        binaries = Path(sys.executable).parent
        environment = os.environ | {
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "src"),
            "HF_HUB_OFFLINE": "1",
            "PYTHONDONTWRITEBYTECODE": "",  # compiled files lie about, as on any machine
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@localhost",
            "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@localhost",
            "XDG_CACHE_HOME": str(self.folder.parent / "cache"),
        }  # fmt: skip
        done = subprocess.run(
            command, cwd=self.folder, env=environment, text=True, timeout=900,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        if status is not None and done.returncode != status:
            pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-6000:]}")
        return done.stdout

    def build(self, *arguments: str, status: int | None = 0) -> str:
        """Run snakemake on both cores."""
        return self.run("snakemake", "--cores", "2", *arguments, status=status)

    def jobs(self, *arguments: str) -> dict[str, int]:
        """What a build would do: the number of jobs of each rule."""
        out = self.run("snakemake", "-n", *arguments)
        if "Nothing to be done" in out:
            return {}
        table = out.split("Job stats:")[1].split("total")[0].splitlines()
        rows = [line.split() for line in table if line and not line.startswith(("job", "---"))]
        return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[0] != "all"}

    def edit_params(self, **sections: dict[str, object]) -> None:
        """Change single values of params.yaml."""
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for section, values in sections.items():
            params[section] |= values
        path.write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.fixture(scope="module")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Make checkouts of the files that git tracks here, with params for minutes, not hours."""

    def make() -> Project:
        folder = tmp_path_factory.mktemp("project") / "poreseg"
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.split("\n")  # fmt: skip
        for name in filter(None, listed):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        project = Project(folder)
        project.edit_params(
            split={"validation_fraction": 0.25},
            augment={"crop": 64},
            train={"steps": 12, "batch": 2, "validate_every": 6, "workers": 0},
            refit={"steps": 4},
            predict={"window": 128, "overlap": 32, "tta": "none"},
        )
        return project

    return make
