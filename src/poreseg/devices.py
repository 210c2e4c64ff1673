"""The processor and the NVIDIA GPUs of this machine, without a library that takes seconds to load."""

import getpass
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

VISIBLE = "CUDA_VISIBLE_DEVICES"
# Read by libraries when a process starts. Threads that wait leave their core to others: to the worker
# that draws crops, for one. And memory that torch frees stays with the process, in large pages: glibc
# would give it back after each layer, and a training step spend a fifth of its time on having it anew.
PROCESSOR = {
    "OMP_WAIT_POLICY": "passive",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296"
    ":glibc.malloc.trim_threshold=8589934592",
}
GLIBC = (
    2,
    36,
)  # or later; older ones refuse so high a threshold, and the other alone makes them slower


def prepare_processor() -> None:
    """Let the processes that this one starts use the processor well; what the user has set stays."""
    for name, value in PROCESSOR.items():
        if name != "GLIBC_TUNABLES" or glibc() >= GLIBC:
            os.environ.setdefault(name, value)


def glibc() -> tuple[int, ...]:
    """Version of the C library that this runs on; empty where it is another one."""
    name, version = platform.libc_ver()
    return tuple(map(int, version.split("."))) if name == "glibc" else ()


def gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may say, one entry a GPU; where it is set, what it says."""
    if VISIBLE in os.environ:
        told = [name.strip() for name in os.environ[VISIBLE].split(",")]
        return told[: next((i for i, name in enumerate(told) if name in ("", "-1")), len(told))]
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
    found = gpus()
    return 100 // len(found) if found else 0


@contextmanager
def own_gpu() -> Iterator[bool]:
    """Keep a GPU to this process, and let CUDA see no other; False where there is none free.

    Call it before CUDA is first used: it reads the variable once.
    """
    user = getattr(os, "getuid", getpass.getuser)()  # a container's user may have no name
    with ExitStack() as held:
        for gpu in gpus():
            lock = FileLock(Path(tempfile.gettempdir()) / f"poreseg-{user}-{gpu}.lock")
            try:
                held.enter_context(lock.acquire(timeout=0))
            except Timeout:
                continue
            os.environ[VISIBLE] = gpu
            yield True
            return
        yield False
