"""Provenance of a result: the code's commit and the data's digest."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

from poreseg.files import digest, sha256


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
    """Digest of rasters and label rasters, in their order: of what is learned, as it was read."""
    return digest([sha256(path) for path in rasters])


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()
