"""Provenance of a result: the code's commit and the data's digest."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

from poreseg.files import digest
from poreseg.images.raster import open_raster


def git_commit() -> str | None:
    """The checked-out commit, plus "+changes" if tracked files differ; None outside git."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + (
            "+changes" if _git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def data_hash(rasters: Iterable[Path | str]) -> str:
    """Digest of the source files (or parts of one) of rasters and label rasters, in any order."""
    sources = []
    for path in rasters:
        with open_raster(path) as raster:
            sources.append(raster.tags["SOURCE_SHA256"])
    return digest(sorted(sources))


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()
