"""What the benchmarks share."""

import json
from pathlib import Path
from typing import Any


def peak_mib() -> int:
    """Peak resident memory of this process so far."""
    status = Path("/proc/self/status").read_text()  # getrusage would count the parent as well
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def report(found: dict[str, Any], file: Path | None) -> None:
    """Write the figures where a file was asked for."""
    if file is not None:
        file.write_text(json.dumps(found, indent=2) + "\n")
