"""Tables of objects: columns found without their unit, and CSV files that pandas reads back."""

import numpy as np
import pandas as pd
import pytest

from morula.measurement.csv_table import read_table, write_table
from morula.measurement.table import column, find_column
from morula.testing.errors import raises

TABLE = pd.DataFrame({"label": [3, 1, 2], "area_um2": [0.5, np.nan, 0.25], "tag": ["TP", "FN", "TP"]})


@pytest.mark.parametrize("table", [TABLE, {name: TABLE[name].to_numpy() for name in TABLE}])
def test_columns_are_found_without_their_unit(table):
    np.testing.assert_array_equal(column(table, "area"), [0.5, np.nan, 0.25])
    np.testing.assert_array_equal(column(table, "volume"), column(table, "area_um2"))
    assert find_column(table, "size") is None


def test_unknown_column():
    with raises("table.unknown_column", key="column", value="labl", remedy="Did you mean 'label'?"):
        column(TABLE, "labl")


def test_csv_of_a_data_frame(tmp_path):
    file = write_table(tmp_path / "table.csv", TABLE)
    assert file.read_text() == "label,area_um2,tag\n3,0.5,TP\n1,,FN\n2,0.25,TP\n"
    pd.testing.assert_frame_equal(pd.read_csv(file), TABLE)
    assert read_table(file)["label"].dtype == np.int64


def test_csv_of_selected_rows_and_of_arrays_is_the_same(tmp_path):
    chosen = TABLE[TABLE["tag"] == "TP"]
    frame = write_table(tmp_path / "frame.csv", chosen).read_bytes()
    assert frame == write_table(tmp_path / "arrays.csv", {name: chosen[name].to_numpy() for name in chosen}).read_bytes()
