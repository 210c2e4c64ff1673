"""NVIDIA GPUs of this machine, found without a library that takes seconds to load."""

import getpass
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpus(devices: Path = Path("/dev")) -> list[str]:
    """What CUDA_VISIBLE_DEVICES may say, one entry a GPU; where it is set, what it says."""
    if VISIBLE in os.environ:
        told = [name.strip() for name in os.environ[VISIBLE].split(",")]
        return [] if "-1" in told else [name for name in told if name]
    if shutil.which("nvidia-smi") is None:
        return []
    return sorted(path.name.removeprefix("nvidia") for path in devices.glob("nvidia[0-9]*"))


def gpu_percent() -> int:
    """What one job takes of all GPUs together, so that each has one job; 0 without a GPU."""
    found = gpus()
    return 100 // len(found) if found else 0


@contextmanager
def own_gpu() -> Iterator[bool]:
    """Keep a GPU to this process, and let CUDA see no other; False where there is none free.

    Call it before CUDA is first used: it reads the variable once.
    """
    with ExitStack() as held:
        for gpu in gpus():
            lock = FileLock(Path(tempfile.gettempdir()) / f"poreseg-{getpass.getuser()}-{gpu}.lock")
            try:
                held.enter_context(lock.acquire(timeout=0))
            except Timeout:
                continue
            os.environ[VISIBLE] = gpu
            yield True
            return
        yield False
