"""Peak memory of ingesting large images.

python benchmarks/ingest_memory.py [--json FILE]

Each image is generated strip by strip and ingested in a process of its own. Memory must not
grow with the image's height: the last line is the ratio, ideally 1.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from common import peak_mib, report
from rasterio.windows import Window

CASES = [  # name, width, height, bands, dtype, layout
    ("striped, 8 bit", 20_000, 20_000, 1, "uint8", {}),
    ("tiled, 8 bit RGB, deflate", 20_000, 20_000, 3, "uint8", {"tiled": True, "compress": "deflate"}),
    ("striped, 16 bit, lzw", 20_000, 20_000, 1, "uint16", {"compress": "lzw"}),
    ("striped, 8 bit, a quarter as high", 20_000, 5_000, 1, "uint8", {}),
]  # fmt: skip


def draw(path: Path, width: int, height: int, bands: int, dtype: str, layout: dict) -> None:
    """A noisy image, written strip by strip."""
    random = np.random.default_rng(0)
    with rasterio.open(path, "w", driver="GTiff", width=width, height=height, count=bands,
                       dtype=dtype, bigtiff="IF_SAFER", **layout) as target:  # fmt: skip
        for row in range(0, height, 500):
            strip = random.integers(0, 250, (bands, 500, width), dtype=np.uint8)
            target.write(strip.astype(dtype), window=Window(0, row, width, 500))


def ingest_and_measure(image: Path) -> None:
    """Ingest in this process and print its peak memory in MiB."""
    from poreseg.images.ingest import ingest

    ingest(image, image.with_name("raster.tif"), low_percentile=0.5, high_percentile=99.5,
           data_bar="auto", border="auto")  # fmt: skip
    print(peak_mib())


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--image", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.image:
        ingest_and_measure(arguments.image)
        return
    found = {}
    for name, width, height, bands, dtype, layout in CASES:
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / "image.tif"
            draw(image, width, height, bands, dtype, layout)
            command = [sys.executable, __file__, "--image", str(image)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name] = int(done.stdout.split()[-1])
            print(f"{name}: {width} x {height}, {found[name]} MiB", flush=True)
    print(f"full height over a quarter of it: {found[CASES[0][0]] / found[CASES[-1][0]]:.2f}")
    report({"peak_mib": found}, arguments.json)


if __name__ == "__main__":
    main()
