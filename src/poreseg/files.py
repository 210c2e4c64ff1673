"""Atomic writes: artefacts are written under a temporary name and renamed."""

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from poreseg.errors import PoresegError

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "poreseg"
TEMPORARY = re.compile(r"\.[0-9a-f]{32}-")  # prefix of a file's name while it is written
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EROFS, errno.ENAMETOOLONG)
# words for a full disk, of safetensors; torch and GDAL; libpng
SAY_NO_ROOM = ("no space left", "write failed", "write error")


@contextmanager
def whole(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside `path` that replaces it when the block succeeds.

    It keeps the suffix, since writers take the format from it. The block may create a file
    or a folder there; a folder replaces an older one.

    Raises
    ------
    PoresegError
        The disk is full, or nothing can be written there.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path, error) from None
    if not os.access(path.parent, os.W_OK):
        raise _refused(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    temporary = path.with_name(f".{uuid.uuid4().hex}-{path.name}")
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    except Exception as error:  # libraries raise their own types
        told = str(error).lower()
        if getattr(error, "errno", None) in NO_ROOM or any(words in told for words in SAY_NO_ROOM):
            raise no_room(path) from None
        if isinstance(error, OSError) and error.errno in REFUSED:
            raise _refused(path, error) from None
        raise
    finally:
        with suppress(OSError):  # what could not be written cannot be removed
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)


def _refused(path: Path, error: OSError) -> PoresegError:
    return PoresegError(f"{path}: cannot be written ({error.strerror or error}); name another path")


def no_room(path: Path | str) -> PoresegError:
    """The error for a file that could not be written completely, with the space left in MB."""
    path = Path(path)
    free = shutil.disk_usage(path.parent).free / 1e6
    name = path.with_name(TEMPORARY.sub("", path.name))
    return PoresegError(
        f"{name}: cannot be written, its disk ({free:.0f} MB left) or a quota is full; make room and run again"
    )


def write_text(path: Path | str, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, content: Any) -> None:
    """Write JSON, keys in the given order; NaN is a ValueError, since undefined is null."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file that poreseg has written."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256(path: Path | str) -> str:
    """SHA-256 hex digest of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(content: Any) -> str:
    """SHA-256 hex digest of any JSON content, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
