"""The processor and the GPUs of this machine, without a library that takes seconds to load."""

import ctypes
import getpass
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import takewhile
from pathlib import Path

from filelock import FileLock, Timeout

VISIBLE = "CUDA_VISIBLE_DEVICES"
GPU = re.compile(r"\d+|(GPU|MIG)-.+")  # a number, or an identity
MALLOC = (  # names in glibc's malloc.h, and bytes
    (-3, 2**30),  # M_MMAP_THRESHOLD: larger blocks go back when freed; before 2.36 refused
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD: what may stay free at the end of the heap
    (-2, 2**26),  # M_TOP_PAD: by how much more than needed the heap grows
)


def keep_freed_memory() -> bool:
    """Let what this process frees stay with it; False where the C library has no such setting.

    A training step frees and takes gigabytes, layer by layer. glibc would give each large
    block back to the system, and a fifth of the step would go into having it anew
    (benchmarks/training.py).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(name, value) for name, value in MALLOC)  # up to the first that is refused


def processors() -> int:
    """How many processors this process may use: fewer than there are under taskset, in a cpuset or in a job of Slurm."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may say, one entry an NVIDIA GPU; where it is set, what it says.

    CUDA stops at the first entry that is none: -1, or Slurm's NoDevFiles.
    """
    if VISIBLE in os.environ:
        told = [name.strip() for name in os.environ[VISIBLE].split(",")]
        return list(takewhile(GPU.fullmatch, told))
    return list(_installed())


@cache
def _installed() -> tuple[str, ...]:
    """Identities of the GPUs that the driver knows; numbers differ between driver, CUDA and containers."""
    try:
        asked = subprocess.run(["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"],
                               capture_output=True, text=True, timeout=30, check=True)  # fmt: skip
    except (OSError, subprocess.SubprocessError):  # no driver, or none that works
        return ()
    return tuple(asked.stdout.split())


def gpu_percent() -> int:
    """What one job takes of all GPUs together, so that each has one job; 0 without a GPU."""
    number = len(gpus()) or int(has_apple_gpu())
    return 100 // number if number else 0


def has_apple_gpu() -> bool:
    """Whether this machine has the one GPU of Apple's own processors."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"


@contextmanager
def own_gpu() -> Iterator[bool]:
    """Keep a GPU to this process, and let CUDA see no other; False where there is none free.

    Then, beside another build, one of them is shared. Call it before CUDA is first used: it
    reads the variable once.
    """
    user = getattr(os, "getuid", getpass.getuser)()  # a container's user may have no name
    found = gpus()
    with ExitStack() as held:
        for gpu in found:
            # numbers hold within a Slurm job: it counts each job's GPUs from 0
            job = os.environ.get("SLURM_JOB_ID", "") if gpu.isdigit() else ""
            lock = FileLock(Path(tempfile.gettempdir()) / f"poreseg-{user}-{job}-{gpu}.lock")
            try:
                held.enter_context(lock.acquire(timeout=0))
            except Timeout:
                continue
            os.environ[VISIBLE] = gpu
            yield True
            return
        if found:
            os.environ[VISIBLE] = found[os.getpid() % len(found)]  # not the first for all
        yield False
