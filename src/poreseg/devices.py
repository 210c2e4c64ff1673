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
GPU = re.compile(r"\d+|(GPU|MIG)-.+")  # index or UUID
MALLOC = (  # option in glibc's malloc.h, value in bytes
    (-3, 2**30),  # M_MMAP_THRESHOLD: larger blocks are unmapped when freed; refused before 2.36
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD: free memory kept at the top of the heap
    (-2, 2**26),  # M_TOP_PAD: extra bytes whenever the heap grows
)


def keep_freed_memory() -> bool:
    """Keep freed memory in this process; False if the C library is not glibc or refuses.

    A training step frees and allocates gigabytes, layer by layer. glibc would return each
    large block to the system, and a fifth of the step would go into getting it again
    (benchmarks/training.py).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(name, value) for name, value in MALLOC)  # stops at the first refusal


def processors() -> int:
    """Number of processors this process may use; taskset, cpusets and Slurm may limit it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus() -> list[str]:
    """Entries for CUDA_VISIBLE_DEVICES, one per NVIDIA GPU; its own entries where it is set.

    Like CUDA, stops at the first entry that is no GPU: -1, or Slurm's NoDevFiles.
    """
    if VISIBLE in os.environ:
        told = [name.strip() for name in os.environ[VISIBLE].split(",")]
        return list(takewhile(GPU.fullmatch, told))
    return list(_installed())


@cache
def _installed() -> tuple[str, ...]:
    """UUIDs of the driver's GPUs; indices differ between driver, CUDA and containers."""
    try:
        asked = subprocess.run(["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"],
                               capture_output=True, text=True, timeout=30, check=True)  # fmt: skip
    except (OSError, subprocess.SubprocessError):  # no working driver
        return ()
    return tuple(asked.stdout.split())


def gpu_percent() -> int:
    """Percentage of all GPUs that one job takes, so that each GPU has one; 0 without a GPU."""
    number = len(gpus()) or int(has_apple_gpu())
    return 100 // number if number else 0


def has_apple_gpu() -> bool:
    """Whether this machine has an Apple silicon GPU."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"


@contextmanager
def own_gpu() -> Iterator[bool]:
    """Reserve a GPU for this process and hide the others from CUDA; False if none is free.

    If other builds hold all of them, one is shared. Call it before CUDA is first used, which
    reads the variable once.
    """
    user = getattr(os, "getuid", getpass.getuser)()  # a container's user may have no name
    found = gpus()
    with ExitStack() as held:
        for gpu in found:
            # Slurm counts each job's GPUs from 0, so an index is unique only within a job
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
            os.environ[VISIBLE] = found[os.getpid() % len(found)]  # spreads processes over GPUs
        yield False
