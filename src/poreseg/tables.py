"""Tables as CSV: written atomically, and read so that an image may be called NA."""

from pathlib import Path

import pandas as pd

from poreseg.files import whole


def read_table(path: Path | str) -> pd.DataFrame:
    """Read a table that poreseg has written; only empty cells are NaN."""
    names = {"image": str, "specimen": str}  # even if it is 0001
    return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""])


def write_table(path: Path | str, table: pd.DataFrame, digits: int = 9) -> None:
    """Write a table, whole or not at all, with `digits` significant digits."""
    with whole(path) as temporary:
        table.to_csv(temporary, index=False, float_format=f"%.{digits}g")
