"""Labels as other programs and data sets store them: Cellpose, one mask per object, one file for many images."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from morula.io.metadata import collected
from morula.io.pairs import list_images, pair_images
from morula.io.read import read_labels
from morula.io.write import write
from morula.testing.errors import raises

LABELS = np.kron(np.array([[0, 1, 2], [3, 0, 70_000]]), np.ones((4, 5), int)).astype(np.uint32)


def cellpose(path, **changes):
    """A file as Cellpose writes it."""
    content = {
        "outlines": LABELS > 0,
        "masks": LABELS,
        "chan_choose": [0, 0],
        "ismanual": np.zeros(3, bool),
        "filename": Path("/data/a.tif"),
        "flows": [np.zeros((8, 15, 3), np.uint8), np.zeros((8, 15)), [], np.float32(1.5)],
        "diameter": np.float64(3.2),
    }
    np.save(path, {**content, **changes})
    return path


@pytest.mark.parametrize(
    "masks", [LABELS, LABELS.astype(np.uint16), np.stack([LABELS, 0 * LABELS]), np.asfortranarray(LABELS), LABELS.astype(">u4")]
)
def test_cellpose(tmp_path, masks):
    labels = read_labels(cellpose(tmp_path / "a_seg.npy", masks=masks))
    np.testing.assert_array_equal(np.asarray(labels), masks)
    assert labels.axes == "ZYX"[-masks.ndim :]


class Code:
    """Its pickle would run a command."""

    def __reduce__(self):
        return os.system, ("touch HACKED",)


def pickled(path, content):
    """A file of pickled objects with these bytes as its pickle."""
    np.save(path, {"masks": LABELS})
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"\x80")] + content)
    return path


REDUCE_OF_10_GB = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I10000000000\ntC\x01btR."
NDARRAY_OF_10_GB = b"cnumpy\nndarray\n((I10000000000\nttR."


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (pickle.dumps({"masks": Code()}), "npy.objects"),
        (pickle.dumps({"masks": LABELS, "x": Code()}, 0), "npy.objects"),
        (pickle.dumps({"masks": [1, 2]}), "npy.objects"),
        (pickle.dumps([LABELS]), "npy.objects"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "npy.objects"),
        (REDUCE_OF_10_GB, "file.unreadable"),
        (NDARRAY_OF_10_GB, "file.unreadable"),
        (b"\x80\x04r\xff\xff\xff\x7f.", "file.unreadable"),  # a memo of 2^31 places
        (b"\x80\x05\x96" + b"\xff" * 7 + b"\x0f.", "file.unreadable"),  # a bytearray of 2^60 bytes
        (b"\x80\x04X\xff\xff\xff\x7f.", "file.unreadable"),
        (b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".", "npy.objects"),
        (b"", "file.unreadable"),
    ],
)
def test_pickles_run_no_code_and_take_no_memory(tmp_path, monkeypatch, content, code):
    monkeypatch.chdir(tmp_path)
    path = pickled(tmp_path / "a_seg.npy", content)
    with raises(code):
        read_labels(path)
    assert os.listdir() == ["a_seg.npy"]


def test_results_of_cellpose_beside_the_images(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.tif", LABELS.astype(np.uint16))
        cellpose(tmp_path / f"{name}_seg.npy")
        write(tmp_path / f"{name}_cp_masks.png", LABELS.astype(np.uint16), labels=True)
    assert [path.name for path in list_images(tmp_path / "*.tif")] == ["a.tif", "b.tif"]
    for pattern in ("*_seg.npy", "*_cp_masks.png"):
        pairs, warnings = pair_images(tmp_path / "*.tif", tmp_path / pattern)
        assert [(pair.name, pair.labels.name) for pair in pairs] == [(name, pattern.replace("*", name)) for name in ("a", "b")]
        assert warnings == []


@pytest.mark.parametrize("suffix", ["_rois.zip", ".geojson"])
def test_folders_of_outlines(tmp_path, suffix):
    for folder in ("raw", "labels"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b"):
        write(tmp_path / "raw" / f"{name}.tif", LABELS.astype(np.uint16))
        write(tmp_path / "labels" / f"{name}{suffix}", LABELS, labels=True)
    pairs, _ = pair_images(tmp_path / "raw", tmp_path / "labels")
    assert [(pair.name, pair.labels.name) for pair in pairs] == [(name, f"{name}{suffix}") for name in ("a", "b")]
    assert [path.name for path in list_images(tmp_path / "labels", labels=True)] == [f"{name}{suffix}" for name in ("a", "b")]
    with raises("images.none_in_folder"):
        list_images(tmp_path / "labels")


def sample(folder, name, labels):
    """An image and its masks as in the 2018 Data Science Bowl."""
    for part in ("images", "masks"):
        (folder / name / part).mkdir(parents=True)
    write(folder / name / "images" / f"{name}.png", labels.astype(np.uint8), axes="YX")
    for number, label in enumerate(np.unique(labels[labels > 0])):
        PIL.Image.fromarray((labels == label).astype(np.uint8) * 255).save(folder / name / "masks" / f"{10 - number}.png")


def test_one_mask_per_object(tmp_path):
    for name in ("a", "b"):
        sample(tmp_path, name, LABELS)
    expected = np.zeros(LABELS.shape, int)
    for label, old in enumerate((70_000, 3, 2, 1), start=1):  # natural order of 7.png ... 10.png
        expected[old == LABELS] = label
    for raw, labels in ((tmp_path, tmp_path), (tmp_path / "*" / "images" / "*.png", tmp_path / "*" / "masks")):
        pairs, warnings = pair_images(raw, labels)
        assert [(pair.name, pair.raw.name, pair.labels.parent.name) for pair in pairs] == [("a", "a.png", "a"), ("b", "b.png", "b")]
        assert warnings == []
    np.testing.assert_array_equal(np.asarray(read_labels(pairs[0].labels)), expected)


def test_label_images_in_a_folder_called_masks(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            write(tmp_path / folder / f"{name}.tif", LABELS.astype(np.uint16))
    pairs, _ = pair_images(tmp_path / "images", tmp_path / "masks")
    assert [pair.labels.name for pair in pairs] == ["a.tif", "b.tif"]
    with raises("masks.values"):
        read_labels(tmp_path / "masks")


def test_masks_of_different_images_are_not_objects_of_one(tmp_path):
    (tmp_path / "masks").mkdir()
    for name in ("a", "b"):
        write(tmp_path / "masks" / f"{name}.png", (LABELS > 0).astype(np.uint8) * 255)
    with raises("masks.overlap"):
        read_labels(tmp_path / "masks")
    write(tmp_path / "masks" / "b.png", np.ones((3, 3), np.uint8), overwrite=True)
    with raises("masks.sizes"):
        read_labels(tmp_path / "masks")


def test_masks_that_overlap_a_little(tmp_path):
    (tmp_path / "masks").mkdir()
    for number, stop in enumerate((13, 14)):
        mask = np.zeros((20, 20), np.uint8)
        mask[:, number * 12 : stop if number == 0 else 20] = 255
        PIL.Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    with collected() as warnings:
        assert np.bincount(np.asarray(read_labels(tmp_path / "masks")).ravel()).tolist() == [0, 240, 160]
    assert [warning.code for warning in warnings] == ["outlines.overlap"]


def test_one_coco_file_for_many_images(tmp_path):
    images, annotations = [], []
    (tmp_path / "raw").mkdir()
    for number, name in enumerate(("a", "b"), start=1):
        write(tmp_path / "raw" / f"{name}.png", LABELS.astype(np.uint16))
        images.append({"id": number, "file_name": f"{name}.png", "height": 8, "width": 15})
        annotations.append({"id": number, "image_id": number, "category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]})
    (tmp_path / "all.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))
    pairs, warnings = pair_images(tmp_path / "raw", tmp_path / "all.json")
    assert [(pair.name, str(pair.labels)) for pair in pairs] == [(name, f"{tmp_path / 'all.json'}:/{name}.png") for name in ("a", "b")]
    assert warnings == []
    assert int(np.asarray(read_labels(pairs[1].labels)).sum()) == 4
