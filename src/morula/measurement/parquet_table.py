"""Tables as Parquet through the optional package pyarrow: typed columns that pandas, polars, R and DuckDB read fast."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from morula.core.atomic import atomic
from morula.core.errors import MissingExtraError

if TYPE_CHECKING:
    import pandas as pd


def write_parquet(
    path: str | os.PathLike[str], columns: Mapping[str, Sequence[object] | np.ndarray] | pd.DataFrame, *, overwrite: bool = True
) -> Path:
    """Write columns of equal length as Parquet, atomically. The same columns are the same file, byte for byte.

    Args:
        path: file to write.
        columns: a `pandas.DataFrame` (its index is not written), or a mapping from names to values.
        overwrite: replace an existing file.

    Raises:
        MissingExtraError: when pyarrow is not installed.
        FileWriteError: when the file cannot be written, or exists and `overwrite` is false.
    """
    path = Path(path).expanduser()
    check_parquet(path)
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({str(name): pyarrow.array(np.asarray(columns[str(name)]), from_pandas=True) for name in columns})
    with atomic(path, overwrite=overwrite) as part:
        parquet.write_table(table, part, compression="zstd")
    return path


def check_parquet(path: Path) -> None:
    """Raise when Parquet cannot be written: before the work starts."""
    try:
        import pyarrow  # noqa: F401 - whether it is there
    except ImportError:
        rule, remedy = "is Parquet, which needs the package pyarrow", "Install it with: pip install 'morula[parquet]'"
        raise MissingExtraError("extra.pyarrow", rule, file=path, remedy=remedy) from None
