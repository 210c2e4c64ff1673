"""Broken and hostile files: one line that names the file, or a right result; nothing worse."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from hostile import IMAGES, LABELS

from poreseg.images.registry import OPENERS
from poreseg.labels.registry import READERS

COUNT = 200  # broken files for each reader


@pytest.mark.parametrize("reader", [*LABELS, *IMAGES])
def test_broken_files_are_one_line_or_read(tmp_path, reader):
    inside = tmp_path / "project"
    inside.mkdir()
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "hostile.py"), reader, str(inside), str(COUNT)],
        cwd=inside, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert [path.name for path in tmp_path.iterdir()] == ["project"], "written outside the project"
    assert not Path("/out.roi").exists()


def test_every_reader_is_fed_with_broken_files():
    assert set(LABELS) == {reader.NAME for reader in READERS}
    assert {OPENERS[suffix] for suffix in IMAGES} == set(OPENERS.values())
