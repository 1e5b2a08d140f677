"""Table: columns, rows, order, CSV."""

import csv
import sys

import numpy as np
import pytest

from morula.core.errors import DataError, FileWriteError, MissingExtraError, UnknownNameError
from morula.measurement.table import Table

TABLE = Table({"label": [3, 1, 2], "size": [0.5, np.nan, 0.25], "tag": ["TP", "FN", "TP"]})


def test_access():
    assert TABLE.columns == list(TABLE) == ["label", "size", "tag"]
    assert len(TABLE) == 3
    assert "size" in TABLE
    assert next(iter(TABLE.rows())) == {"label": 3, "size": 0.5, "tag": "TP"}
    assert len(Table({})) == len(Table({"a": []})) == 0


def test_columns_are_copied_and_read_only():
    values = np.arange(3)
    table = Table({"a": values})
    values[0] = 9
    assert table["a"].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="read-only"):
        table["a"][0] = 1


def test_unknown_column_and_bad_shapes():
    with pytest.raises(UnknownNameError, match=r"no column 'sise'; it has label, size, tag\. Did you mean 'size'"):
        TABLE["sise"]
    with pytest.raises(DataError, match=r"a \(2,\), b \(3,\)"):
        Table({"a": [1, 2], "b": [1, 2, 3]})
    with pytest.raises(DataError, match="one-dimensional"):
        Table({"a": np.zeros((2, 2))})


def test_sort():
    assert TABLE.sort_by("label")["label"].tolist() == [1, 2, 3]
    assert TABLE.sort_by("label", descending=True)["tag"].tolist() == ["TP", "TP", "FN"]
    assert TABLE.sort_by("size")["label"].tolist() == [2, 3, 1]
    assert TABLE.sort_by("size", descending=True)["label"].tolist() == [3, 2, 1]
    assert TABLE.sort_by("tag", descending=True)["label"].tolist() == [3, 2, 1]  # rows of equal value keep their order
    assert TABLE["label"].tolist() == [3, 1, 2]


def test_csv(tmp_path):
    path = TABLE.to_csv(tmp_path / "table.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["label"] for row in rows] == ["3", "1", "2"]
    assert float(rows[0]["size"]) == 0.5
    assert rows[1]["tag"] == "FN"


def test_csv_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileWriteError):
        TABLE.to_csv(tmp_path / "file" / "table.csv")


def test_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match="pip install pandas"):
        TABLE.to_pandas()


def test_with_pandas():
    pandas = pytest.importorskip("pandas")
    frame = TABLE.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["label"].tolist() == [3, 1, 2]


def test_repr():
    assert repr(TABLE).splitlines()[0] == "label  size  tag"
    assert repr(Table({"a": np.arange(40)})).splitlines()[-2:] == ["...", "[40 rows x 1 columns]"]
    assert repr(Table({})) == "[0 rows x 0 columns]"
