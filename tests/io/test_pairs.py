"""Images find their labels by name; what does not fit is said at once."""

import numpy as np
import pytest

from morula.core.location import natural_key, split_location, stem_of, suffix_of
from morula.io.pairs import list_images, pair_images
from morula.io.write import write
from morula.testing.errors import raises


def fill(folder, names, shape=(6, 5)):
    for name in names:
        write(folder / name, np.zeros(shape, np.uint8), overwrite=True)
    return folder


def names(pairs):
    return [(pair.raw.name, pair.labels.name) for pair in pairs]


@pytest.mark.parametrize(
    ("raw", "labels"),
    [
        (["a.tif", "b.tif"], ["a.tif", "b.tif"]),
        (["a.tif", "b.tif"], ["a.png", "b.ome.tif"]),
        (["a.ome.zarr", "b.v2.tif"], ["a.h5", "b.v2.npy"]),
        (["a_raw.tif", "b_raw.tif"], ["a_label.tif", "b_label.tif"]),
        (["a.tif", "b.tif"], ["a_masks.png", "b_masks.png"]),
        (["a.tif", "b.tif"], ["a_cp_masks.tif", "b_cp_masks.tif"]),
        (["img_1.png", "img_10.png"], ["mask_1.png", "mask_10.png"]),
        (["t000.tif", "t001.tif"], ["man_seg000.tif", "man_seg001.tif"]),
        (["Emb-01 image.tif", "Emb-02 image.tif"], ["Emb-01 Labels.tif", "Emb-02 Labels.tif"]),
    ],
)
def test_names_that_belong_together(tmp_path, raw, labels):
    pairs, warnings = pair_images(fill(tmp_path / "raw", raw), fill(tmp_path / "labels", labels))
    assert names(pairs) == list(zip(raw, labels))
    assert warnings == []


def test_patterns_in_one_folder(tmp_path):
    fill(tmp_path, ["a_raw.tif", "a_label.tif", "b_raw.tif", "b_label.tif", "c.txt.tif"])
    pairs, warnings = pair_images(tmp_path / "*_raw.tif", f"{tmp_path}/*_label.tif")
    assert names(pairs) == [("a_raw.tif", "a_label.tif"), ("b_raw.tif", "b_label.tif")]
    assert [pair.name for pair in pairs] == ["a_raw", "b_raw"]
    assert warnings == []


def test_natural_order_with_a_warning(tmp_path):
    raw = fill(tmp_path / "raw", ["x1.tif", "x2.tif", "x10.tif"])
    labels = fill(tmp_path / "labels", ["p3.tif", "p4.tif", "p20.tif"])
    pairs, (warning,) = pair_images(raw, labels)
    assert names(pairs) == [("x1.tif", "p3.tif"), ("x2.tif", "p4.tif"), ("x10.tif", "p20.tif")]
    assert warning.startswith("no image has the name of a label image, so they were paired in natural order: x1.tif with p3.tif")


def test_two_files_are_a_pair(tmp_path):
    fill(tmp_path, ["one.tif", "two.tif"])
    pairs, warnings = pair_images(tmp_path / "one.tif", tmp_path / "two.tif")
    assert (names(pairs), warnings) == ([("one.tif", "two.tif")], [])


def test_everything_that_does_not_fit_is_said_at_once(tmp_path):
    raw = fill(tmp_path / "raw", ["a.tif", "b.tif", "c.tif", "d.tif"])
    labels = fill(tmp_path / "labels", ["a.tif", "e.tif"])
    fill(labels, ["b.tif"], shape=(6, 6))
    (labels / "d.tif").write_bytes(b"nothing")
    with raises("images.labels_do_not_match") as caught:
        pair_images(raw, labels)
    said = str(caught.error)
    assert f"{str(raw / 'c.tif')!r} has no label image in {str(labels)!r}" in said
    assert f"label image {str(labels / 'e.tif')!r} has no image in {str(raw)!r}" in said
    assert "has 6 x 5 voxels but its labels" in said
    assert "have 6 x 6" in said
    assert "d.tif' cannot be read" in said
    assert said.endswith("Give each image one label image of the same name and size.")


def test_a_name_that_stands_twice_is_not_guessed(tmp_path):
    raw = fill(tmp_path / "raw", ["a.tif", "a.png"])
    labels = fill(tmp_path / "labels", ["a.tif", "b.tif", "c.tif"])
    with raises("images.labels_do_not_match"):
        pair_images(raw, labels)


def test_shapes_are_compared_by_the_axes(tmp_path):
    np.save(tmp_path / "raw.npy", np.zeros((2, 8, 9), np.uint8))
    np.save(tmp_path / "labels.npy", np.zeros((8, 9), np.uint8))
    with raises("images.labels_do_not_match"):
        pair_images(tmp_path / "raw.npy", tmp_path / "labels.npy")
    assert len(pair_images(tmp_path / "raw.npy", tmp_path / "labels.npy", axes="CYX")[0]) == 1


def test_raw_and_labels_in_one_file(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.h5", np.zeros((4, 6, 5)), dataset="raw")
        write(tmp_path / f"{name}.h5", np.zeros((4, 6, 5), np.uint16), dataset="label", labels=True)
    pairs, _ = pair_images(tmp_path, tmp_path)
    assert [pair.name for pair in pairs] == ["a", "b"]
    pairs, _ = pair_images(f"{tmp_path}/*.h5:/raw", f"{tmp_path}/*.h5:/label")
    assert [str(pair.labels).rpartition("/")[2] for pair in pairs] == ["label", "label"]
    assert [pair.name for pair in pairs] == ["a", "b"]


def test_without_labels(tmp_path):
    pairs, warnings = pair_images(fill(tmp_path / "raw", ["b10.tif", "b9.tif"]))
    assert [(pair.name, pair.labels) for pair in pairs] == [("b9", None), ("b10", None)]
    assert warnings == []


def test_folders_are_listed_in_natural_order(tmp_path):
    fill(tmp_path, ["t10.tif", "t9.png", "t1.ome.zarr", "t2.nii.gz"])
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden.tif").write_text("x")
    (tmp_path / "more").mkdir()
    (tmp_path / "odd.tif").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["t1.ome.zarr", "t2.nii.gz", "t9.png", "t10.tif"]
    assert [path.name for path in list_images([tmp_path / "t9.png", tmp_path / "t1*"])] == ["t9.png", "t1.ome.zarr", "t10.tif"]
    assert list_images(tmp_path / "t1.ome.zarr") == [tmp_path / "t1.ome.zarr"]


def test_same_stems_take_the_folder(tmp_path):
    for folder in ("x", "y"):
        fill(tmp_path / folder, ["a.tif"])
    assert [pair.name for pair in pair_images([tmp_path / "x", tmp_path / "y"])[0]] == ["x_a", "y_a"]


def test_nothing_there(tmp_path):
    (tmp_path / "raw").mkdir()
    with raises("images.none_in_folder"):
        list_images(tmp_path / "raw")
    (tmp_path / "raw" / "a.mrc").write_text("x")
    (tmp_path / "raw" / "more").mkdir()
    with raises("images.none_in_folder"):
        list_images(tmp_path / "raw")
    with raises("file.missing", remedy="Correct the path. Did you mean 'raw'?"):
        list_images(tmp_path / "rwa")
    with raises("file.missing"):
        list_images(tmp_path / "a" / "b")
    with raises("images.none_match"):
        list_images(tmp_path / "*.tif")


def test_reading_what_is_not_there_or_unknown(tmp_path):
    from morula.io.read import read

    write(tmp_path / "cells.tif", np.zeros((4, 4), np.uint8))
    with raises("file.missing", file=str(tmp_path / "cels.tif"), remedy="Correct the path. Did you mean 'cells.tif'?"):
        read(tmp_path / "cels.tif")
    with raises("file.missing"):
        read(tmp_path / "a.h5" / "raw")
    (tmp_path / "a.mrc").write_text("x")
    with raises("file.unknown_format"):
        read(tmp_path / "a.mrc")
    with raises("file.is_a_folder"):
        read(tmp_path)
    (tmp_path / "b.tif").write_bytes(b"")
    with raises("file.unreadable"):
        read(tmp_path / "b.tif")
    (tmp_path / "empty.zarr").mkdir()
    with raises("dataset.none"):
        read(tmp_path / "empty.zarr")


def test_content_goes_before_the_suffix(tmp_path):
    from morula.io.read import read

    write(tmp_path / "a.png", np.eye(9, dtype=np.uint8)).rename(tmp_path / "a.tif")
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), np.eye(9))
    write(tmp_path / "b.h5", np.eye(9, dtype=np.uint8)).rename(tmp_path / "b.ilp")
    np.testing.assert_array_equal(read(tmp_path / "b.ilp"), np.eye(9))


def test_locations(tmp_path):
    assert split_location("C:/x/a.h5:/b/c")[1] == "b/c"
    assert split_location("a.zarr/labels/n")[1] == "labels/n"
    assert split_location(fill(tmp_path, ["a.h5.tif"]) / "a.h5.tif") == (tmp_path / "a.h5.tif", None)
    (tmp_path / "x.h5").mkdir()
    assert split_location(tmp_path / "x.h5" / "y") == (tmp_path / "x.h5" / "y", None)
    assert (suffix_of("a.NII.gz"), stem_of("a.b.nii.gz"), stem_of("README")) == (".nii.gz", "a.b", "README")
    assert sorted(["b", "a10", "a9", "10"], key=natural_key) == ["10", "a9", "a10", "b"]
