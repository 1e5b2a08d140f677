"""Scores of the classes of objects."""

import numpy as np
import pytest

from morula.metrics.classes import class_accuracy, class_confusion, class_scores, object_classes
from morula.testing.errors import raises


def brute(truth, result, count, ignore):
    """The table, by comparing every pair."""
    table = np.zeros((count + 1, count + 1), int)
    (labels, classes), (found, kinds) = truth, result
    taken = set()
    for one in sorted(set(labels.ravel()) - {0}):
        values = [value for value in classes[labels == one].tolist() if value not in (0, ignore)]
        kind = max(sorted(set(values)), key=values.count) if values else 0
        partner = 0
        for other in sorted(set(found[labels == one]) - {0}):
            a, b = labels == one, found == other
            if (a & b).sum() / (a | b).sum() > 0.5:
                partner = other
        if partner:
            taken.add(partner)
        if kind:
            table[kind, int(kinds[found == partner][0]) if partner else 0] += 1
    for other in set(found.ravel()) - {0} - taken:
        table[0, int(kinds[found == other][0])] += 1
    return table


@pytest.mark.parametrize("shape", [(40, 40), (8, 20, 20)])
def test_the_table_is_that_of_brute_force(shape):
    rng = np.random.default_rng(0)
    blocks = np.zeros(shape, np.int64)
    for number, corner in enumerate(np.ndindex(*(n // 4 for n in shape)), start=1):
        blocks[tuple(slice(4 * c, 4 * c + 4) for c in corner)] = number if rng.random() < 0.6 else 0
    found = np.where(rng.random(shape) < 0.1, 0, np.where(np.isin(blocks % 7, (1, 2)), np.roll(blocks, 2, axis=0), blocks))
    kinds = rng.integers(1, 4, blocks.max() + 1)
    kinds[::6] = 255
    classes = np.where(blocks > 0, kinds[blocks], 0)
    predicted = np.where(found > 0, 1 + rng.integers(0, 3, blocks.max() + 1)[found], 0)
    table = class_confusion((blocks, classes), (found, predicted), 3, threshold=0.5 + 1e-9)
    np.testing.assert_array_equal(table, brute((blocks, classes), (found, predicted), 3, 255))
    rows = class_scores(table, ("a", "b", "c"))
    assert [row["tp"] for row in rows] == np.diag(table)[1:].tolist()
    assert all(row["tp"] + row["fn"] == row["n_true"] and row["tp"] + row["fp"] == row["n_pred"] for row in rows)
    assert class_accuracy(table) == np.trace(table[1:, 1:]) / table[1:, 1:].sum()


def test_ids_of_any_size_and_mixed_objects():
    labels = np.array([[2**31, 2**31, 2**31, 70_000, 70_000, 0]], np.uint32)
    ids, kinds = object_classes(labels, np.array([[1, 2, 2, 0, 9, 3]], np.uint8), ignore=9)
    assert (ids.tolist(), kinds.tolist()) == ([70_000, 2**31], [0, 2])


def test_without_objects_there_is_no_accuracy():
    empty = np.zeros((4, 4), int)
    table = class_confusion((empty, empty), (empty, empty), 2)
    assert not table.any()
    assert np.isnan(class_accuracy(table))
    assert all(np.isnan(row["f1"]) for row in class_scores(table, ("a", "b")))


def test_a_class_above_the_number_is_named():
    labels = np.ones((2, 2), int)
    with raises("classes.unknown", value=5):
        class_confusion((labels, labels), (labels, 5 * labels), 2)
