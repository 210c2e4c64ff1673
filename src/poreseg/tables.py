"""Tables as CSV: written whole, and read so that an image called NA is an image."""

from pathlib import Path

import pandas as pd

from poreseg.files import whole


def read_table(path: Path | str) -> pd.DataFrame:
    """Read a table of ours; only an empty cell is undefined."""
    names = {"image": str, "specimen": str}  # even 0001
    return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""])


def write_table(path: Path | str, table: pd.DataFrame, digits: int = 9) -> None:
    """Write a table, whole or not at all, with so many significant digits."""
    with whole(path) as temporary:
        table.to_csv(temporary, index=False, float_format=f"%.{digits}g")
