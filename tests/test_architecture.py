"""The house: one direction of flow, dull plugs, every rule with its script."""

import ast
import re
import runpy
from pathlib import Path

import pytest
from conftest import ROOT

from poreseg.build import LOGGED, PER_IMAGE
from poreseg.plan import sources

FLOW = [  # a module may import only what stands before it
    "errors", "files", "names", "devices", "classes", "config", "tables", "images.companions", "images.windows", "images.stitch", "images.stream",
    "images.raster", "images.scale", "images.source", "images.photo", "images.npy", "images.gdal", "images.czi",
    "images.registry", "images.around", "images.frame", "images.ingest", "images.tiles", "labels.label",
    "labels.shapes", "labels.documents", "labels.picture", "labels.geojson", "labels.labelme", "labels.coco",
    "labels.via", "labels.labelstudio", "labels.cvat", "labels.roi", "labels.vector", "labels.mask",
    "labels.registry", "labels.rasterise", "labels.match", "labels.write", "labels.convert", "study", "split", "check", "metrics", "lineage",
    "tracking", "drawn.fields", "drawn.anything", "drawn.modalities", "drawn.study", "learning.encoder", "learning.pipeline", "learning.dataset",
    "learning.augment", "learning.losses", "learning.card", "learning.moments", "learning.model", "learning.speed", "learning.sliding", "learning.looks", "learning.calibrate", "learning.loop",
    "learning.pretrain", "learning.train",
    "prediction.engine", "prediction.likeness", "prediction.refine", "prediction.polarity", "prediction.predict", "prediction.pores", "prediction.segment", "analysis.errors", "analysis.objects", "analysis.displaced", "analysis.forest", "analysis.baselines", "analysis.evaluate",
    "analysis.morphometry", "analysis.report", "plan", "build",
    "cli",
]  # fmt: skip
PACKAGE = ROOT / "src" / "poreseg"
SCRIPTS = sorted((ROOT / "workflow" / "scripts").glob("*.py"))


def module(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imported(path):
    """Modules of poreseg that a file imports, at the top or inside a function."""
    known = set(FLOW)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("poreseg"):
            base = node.module.removeprefix("poreseg").removeprefix(".")
            names = {base, *(f"{base}.{a.name}".removeprefix(".") for a in node.names)}
            yield from names & known


def test_every_module_has_its_place_in_the_flow():
    found = {module(p) for p in PACKAGE.rglob("*.py") if p.name != "__init__.py"}
    assert found == set(FLOW)


@pytest.mark.parametrize("name", FLOW)
def test_a_module_imports_only_what_stands_before_it(name):
    path = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
    later = [other for other in imported(path) if FLOW.index(other) >= FLOW.index(name)]
    assert not later


def test_one_module_knows_albumentations():
    """It keeps it from asking the network for news, which it does when it is imported."""
    knows = re.compile(r"^(import|from) albumentations\b", re.MULTILINE)
    found = [module(path) for path in PACKAGE.rglob("*.py") if knows.search(path.read_text())]
    assert found == ["learning.pipeline"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_scripts_are_plugs(path):
    tree = ast.parse(path.read_text())
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    assert len(lines) <= 25
    found = [
        n for n in ast.walk(tree) if isinstance(n, ast.If | ast.For | ast.FunctionDef | ast.While)
    ]
    guard = "if __name__ == '__main__'"  # which spawned workers need, see below
    assert [n for n in found if not ast.unparse(n).startswith(guard)] == []


def test_each_script_has_its_rule_and_each_rule_its_script():
    rules = re.findall(r"^ *rule (\w+):", (ROOT / "Snakefile").read_text(), re.MULTILINE)
    assert set(rules) - {"all"} == {path.stem for path in SCRIPTS}


def test_what_a_build_removes_of_an_image_is_what_the_rules_write_of_one():
    """Else masks of an image that is gone would stay among those of the study."""
    written = re.findall(r"at\(\"(\w+)/{image}(\.\w+)\"", (ROOT / "Snakefile").read_text())
    assert dict(written) == PER_IMAGE
    logged = re.findall(r"at\(\"logs/(\w+)/{image}\.log\"", (ROOT / "Snakefile").read_text())
    assert tuple(logged) == LOGGED


def test_modules_are_small():
    sizes = {module(p): len(p.read_text().splitlines()) for p in PACKAGE.rglob("*.py")}
    assert max(sizes.values()) <= 320, sizes


def test_sources_of_a_verb_are_what_it_imports(monkeypatch):
    monkeypatch.chdir(ROOT)
    stems = {verb: {Path(p).stem for p in sources(verb)} for verb in ("measure", "train", "report")}
    assert "morphometry" in stems["measure"]
    assert "morphometry" not in stems["train"]
    assert {"model", "dataset", "pipeline", "stitch"} <= stems["train"]
    assert "train" not in stems["report"]


@pytest.mark.parametrize("name", ["train", "refit", "pretrain"])
def test_a_worker_that_is_spawned_does_not_train(name):
    """It imports the script that started it, which has no `snakemake` there."""
    runpy.run_path(str(ROOT / "workflow" / "scripts" / f"{name}.py"), run_name="__mp_main__")
