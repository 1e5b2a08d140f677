"""Removal of objects by conditions: any of the lists, all of a list, in every spelling."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from morula.measurement.conditions import parse_conditions
from morula.measurement.filter import filter_objects, satisfied_conditions, with_verdicts
from morula.measurement.measure import measure
from morula.testing.errors import raises

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "labels" / "measure.npz")
TABLE = pd.DataFrame({"label": [3, 5, 9], "voxels": [50, 100, 900], "area_um2": [0.5, 1.0, 9.0], "circularity": [np.nan, 0.7, 0.2]})


def test_equals_the_original():
    rule = [["npixels < 400"], ["diameter >= 20", "circularity > 0.5"]]
    kept, table = filter_objects(GOLDEN["labels"], measure(GOLDEN["labels"]), rule)
    np.testing.assert_array_equal(kept, GOLDEN["filtered"])
    np.testing.assert_array_equal(satisfied_conditions(table, rule), GOLDEN["conditions"])


@pytest.mark.parametrize(
    ("rule", "removed"),
    [
        ("npixels < 100", [3]),
        ("npixels le 100", [3, 5]),
        (["npixels>=100 and circularity<=0.7"], [5, 9]),
        ([["voxels gt 50", "area_um2 < 5"]], [5]),
        ([["area < 0.6"], ["circularity < 0.3"]], [3, 9]),
        ([{"property": "npixels", "sign": "ge", "value": 900}], [9]),
        ({"PROPS": [["npixels"], ["npixels", "circularity"]], "VALUES": [[60], [200, 0.3]], "SIGN": [["lt"], ["gt", "le"]]}, [3, 9]),
        ({"props": [["npixels"]], "values": [[60]], "signs": [["lt"]]}, [3]),
        ({"property": "npixels", "sign": "lt", "value": 60}, [3]),
        ([], []),
    ],
)
def test_conditions_in_every_spelling(rule, removed):
    table = with_verdicts(TABLE, rule)
    assert table["label"][table["comment"] == "Removed"].tolist() == removed


def test_filtered_labels_keep_ids_and_type():
    labels = np.array([[0, 7, 7, 2**31, 2**31, 2**31]], np.int64)
    kept, table = filter_objects(labels, measure(labels), "npixels < 3")
    assert kept.dtype == labels.dtype
    assert kept.tolist() == [[0, 0, 0, 2**31, 2**31, 2**31]]
    assert table["comment"].tolist() == ["Removed", "Correct"]
    assert table["conditions"].tolist() == ["['Satisfied']", "['No satisfied']"]
    everything = filter_objects(labels, measure(labels), "npixels >= 0")[0]
    assert everything.max() == 0
    nothing = np.zeros((3, 4), np.uint16)
    assert len(filter_objects(nothing, measure(nothing), "npixels >= 0")[1]) == 0


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("npixels = 3", "condition.syntax"),
        ("npixels < many", "condition.not_a_number"),
        ({"props": [["area"]], "values": [[1, 2]], "signs": [["lt"]]}, "condition.unequal_lists"),
        ({"props": [["area"]]}, "condition.keys"),
        ([{"property": "area", "sign": "lower", "value": 3}], "option.choice"),
        ([[]], "condition.empty_list"),
        ({"props": ["area"], "values": [3], "signs": ["lt"]}, "condition.nested_lists"),
    ],
)
def test_invalid_conditions(rule, code):
    with raises(code):
        parse_conditions(rule)


def test_unmeasured_property():
    with raises("condition.unknown_property", value="sphericty < 0.5"):
        with_verdicts(TABLE, "sphericty < 0.5")
