"""Metadata of other programs: used as far as they are sound, with a warning per field that is not."""

import json
import os
import struct
import warnings
import zlib

import h5py
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr

from morula.core.errors import FileReadError
from morula.io.metadata import MetadataWarning
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.testing.errors import raises

CELLS = np.kron(np.arange(1, 5, dtype=np.uint16).reshape(2, 2), np.ones((24, 24), np.uint16))
VOLUME = np.stack([CELLS * plane for plane in range(1, 9)])


def changed(folder, change, *, inside=""):
    """An OME-Zarr image, with labels where `inside` is in them, after `change` of the metadata."""
    path = write(folder / "a.ome.zarr", VOLUME, axes="ZYX", voxel_size=[2, 0.5, 0.5])
    if inside:
        write(path, (VOLUME > 1).astype(np.uint16), axes="ZYX", labels=True)
    file = path / inside / "zarr.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return path


def multiscale(content):
    return content["attributes"]["ome"]["multiscales"][0]


def scale_of(content):
    return multiscale(content)["datasets"][0]["coordinateTransformations"][0]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda c: scale_of(c).update(scale=["a", "b", "c"]), "coordinateTransformations.scale"),
        (lambda c: scale_of(c).update(scale=[0, 1, 1]), "coordinateTransformations.scale"),
        (lambda c: scale_of(c).update(scale=3), "coordinateTransformations.scale"),
        (lambda c: multiscale(c)["datasets"][0].update(coordinateTransformations=7), "coordinateTransformations.scale"),
        (lambda c: multiscale(c).update(axes=["angle", "y", "x"]), "multiscales.axes"),
        (lambda c: multiscale(c).update(axes=5), "multiscales.axes"),
        (lambda c: multiscale(c)["axes"].pop(), "multiscales.axes"),
        (lambda c: multiscale(c)["axes"][0].update(unit=["um"]), "multiscales.axes.unit"),
        (lambda c: multiscale(c)["axes"][0].update(type="time"), "multiscales.axes.type"),
        (lambda c: multiscale(c)["axes"][0].update(type=5), "multiscales.axes.type"),
        (lambda c: multiscale(c).update(datasets={"path": "0"}), "multiscales.datasets"),
        (lambda c: c["attributes"]["ome"].update(multiscales="none"), "multiscales"),
        (lambda c: c.update(attributes=[1, 2]), "attributes"),
    ],
)
def test_invalid_ome_zarr_field_is_ignored_with_a_warning(tmp_path, change, field):
    path = changed(tmp_path, change)
    with pytest.warns(MetadataWarning) as caught:
        image = read(path)
    assert field in {one.message.field for one in caught}
    assert image.axes == "ZYX"
    assert np.array_equal(image, VOLUME)


@pytest.mark.parametrize("labels", [None, 3, [1, 2], {"a": 1}])
def test_invalid_list_of_label_images_is_replaced(tmp_path, labels):
    path = changed(tmp_path, lambda c: c["attributes"]["ome"].update(labels=labels), inside="labels")
    with pytest.warns(MetadataWarning) as caught:
        found = read_labels(path)
    assert "labels" in {one.message.field for one in caught}
    assert found.dtype == np.uint16
    assert np.asarray(found).max() == 1


def test_level_outside_of_the_image_is_refused(tmp_path):
    path = changed(tmp_path, lambda c: multiscale(c)["datasets"][0].update(path="../other"))
    with raises("ome_zarr.path_outside", value="../other"):
        read(path)


def test_remedy_for_several_label_images_is_a_path_that_works(tmp_path):
    path = write(tmp_path / "scan.ome.zarr", CELLS, axes="YX")
    for name in ("nuclei", "cells"):
        write(path, CELLS, axes="YX", labels=True, dataset=name)
    with raises("dataset.ambiguous") as caught:
        read_labels(path)
    assert "scan.ome.zarr:/labels/NAME" in caught.error.remedy
    assert np.array_equal(read_labels(f"{path}:/labels/nuclei"), CELLS)


def chunks_of(path, values, **options):
    array = zarr.create_array(str(path), shape=values.shape, chunks=(8, 8), dtype=values.dtype, **options)
    array[:] = values
    return path


def test_chunks_enclosed_by_stored_ones_were_lost(tmp_path):
    path = chunks_of(tmp_path / "a.zarr", np.ones((32, 32), np.uint16))
    (path / "c/1/2").unlink()
    with raises("zarr.missing_chunks", file=str(path)) as caught:
        read(path)
    assert "c/1/2" in caught.error.rule
    with pytest.warns(MetadataWarning) as warned:
        assert np.asarray(read(path, missing="zeros")).min() == 0
    assert warned[0].message.code == "zarr.missing_chunks"


def test_missing_chunks_are_lost_if_empty_ones_are_stored(tmp_path):
    values = np.ones((32, 32), np.uint16)
    values[:8, :8] = 0
    path = chunks_of(tmp_path / "a.zarr", values, config={"write_empty_chunks": True})
    (path / "c/3/3").unlink()
    for reading in (read, read_labels):
        with raises("zarr.missing_chunks"):
            reading(path)


def test_empty_chunks_at_the_border_and_in_labels_are_valid(tmp_path):
    values = np.ones((32, 32), np.uint16)
    values[:10] = 0  # dark also beyond the chunks that are left out
    path = chunks_of(tmp_path / "a.zarr", values)
    with pytest.warns(MetadataWarning) as warned:
        assert np.array_equal(read(path), values)
    assert warned[0].message.code == "zarr.missing_chunks"
    values[16:24, 16:24] = 0
    assert np.array_equal(read_labels(chunks_of(tmp_path / "b.zarr", values)), values)
    with raises("zarr.missing_chunks"):
        read(tmp_path / "b.zarr")


@pytest.mark.parametrize("lost", ["c/0/0", "c/3/1", "c/2/3"])
def test_missing_chunks_are_lost_if_the_image_is_cut_off_there(tmp_path, lost):
    path = chunks_of(tmp_path / "a.zarr", 1 + np.arange(1024, dtype=np.uint16).reshape(32, 32))
    (path / lost).unlink()
    with raises("zarr.missing_chunks") as caught:
        read(path)
    assert lost in caught.error.rule


def test_unknown_unit_of_nifti_is_no_damage(tmp_path):
    path = write(tmp_path / "a.nii", CELLS, axes="YX", voxel_size=(0.5, 0.5))
    content = bytearray(path.read_bytes())
    content[123] = 7  # xyzt_units
    path.write_bytes(content)
    with pytest.warns(MetadataWarning) as warned:
        found = read(path)
    assert np.array_equal(found, read(write(tmp_path / "b.nii", CELLS, axes="YX")))
    assert (warned[0].message.field, warned[0].message.value) == ("xyzt_units", 7)


@pytest.mark.parametrize(
    ("place", "code", "value", "field"),
    [(123, "B", 8, "xyzt_units"), (76 + 8, "<f", np.inf, "pixdim"), (76 + 4, "<f", np.nan, "pixdim")],
)
def test_lengths_of_nifti_that_say_nothing_are_told(tmp_path, place, code, value, field):
    path = write(tmp_path / "a.nii", CELLS, axes="YX", voxel_size=(0.5, 0.5))
    content = bytearray(path.read_bytes())
    struct.pack_into(code, content, place, value)
    path.write_bytes(content)
    with pytest.warns(MetadataWarning) as warned:
        found = read(path)
    assert np.array_equal(found, CELLS)
    assert warned[0].message.field == field
    assert found.voxel_size is None or found.voxel_size.unit == "pixel"


def test_voxels_of_nifti_inside_its_header_are_refused(tmp_path):
    path = write(tmp_path / "a.nii", CELLS, axes="YX")
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, 108, 0)  # vox_offset
    path.write_bytes(content)
    with raises("file.unreadable"):
        read(path)


@pytest.mark.parametrize(("unit", "field"), [("\\u03BCm", None), ("\\uZZZZm", "unit")])
def test_units_of_imagej_in_escapes(tmp_path, unit, field):
    tifffile.imwrite(tmp_path / "a.tif", CELLS, description=f"ImageJ=1.53\nunit={unit}\n", metadata=None, resolution=(2, 2))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = read(tmp_path / "a.tif")
    assert [each.message.field for each in said] == [] if field is None else [field]
    assert found.spacing == ((0.5, 0.5) if field is None else (1, 1))


@pytest.mark.parametrize("stated", ["images=3\nslices=0\nframes=-1", "images=abc\nslices=3", "images=3\nslices=2"])
def test_contradictory_metadata_of_imagej_are_no_damage(tmp_path, stated):
    planes = np.arange(3 * 64, dtype=np.uint16).reshape(3, 8, 8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for number, plane in enumerate(planes):
            file.write(plane, description=None if number else f"ImageJ=1.53\n{stated}\n", metadata=None, contiguous=False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = read(tmp_path / "a.tif")
    assert np.array_equal(np.squeeze(found), planes)
    assert all(isinstance(each.message, MetadataWarning) for each in said)


def test_missing_planes_of_imagej_are_counted(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for number in range(3):
            text = None if number else "ImageJ=1.53\nimages=9\nslices=9\n"
            file.write(np.full((8, 8), number, np.uint16), description=text, metadata=None, contiguous=False)
    with raises("tiff.missing_planes") as caught:
        read(tmp_path / "a.tif")
    assert "6 of 9" in caught.error.rule


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.tif")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.tif", "zero.png"):
        with raises("file.not_regular"):
            read(tmp_path / name)


def test_own_files_store_every_chunk(tmp_path):
    path = write(tmp_path / "a.ome.zarr", np.zeros((1100, 1100), np.uint8), axes="YX")
    assert np.asarray(read(path)).max() == 0
    (path / "0/c/0/0").unlink()
    with raises("zarr.missing_chunks"):
        read(path)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("cut", [1, 9])
def test_blosc_chunks_without_their_end_are_errors(tmp_path, version, cut):
    codec = numcodecs.Blosc("lz4") if version == 2 else zarr.codecs.BloscCodec()
    values = np.random.default_rng(0).integers(0, 255, (8, 8), np.uint8)
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=(8, 8), chunks=(4, 4), dtype="uint8", zarr_format=version, compressors=codec)
    array[:] = values
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "a.zarr")), values)
    chunk = tmp_path / ("a.zarr/0.1" if version == 2 else "a.zarr/c/0/1")
    chunk.write_bytes(chunk.read_bytes()[:-cut])
    with pytest.raises(FileReadError, match="but"):
        np.asarray(read(tmp_path / "a.zarr"))


def test_empty_shards_are_errors(tmp_path):
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=(8, 8), chunks=(2, 2), shards=(4, 4), dtype="uint8")
    array[:] = 7
    (tmp_path / "a.zarr/c/0/1").write_bytes(b"")
    with raises("zarr.missing_chunks"):
        read(tmp_path / "a.zarr")
    with pytest.warns(MetadataWarning, match="empty"):
        assert np.asarray(read(tmp_path / "a.zarr", missing="zeros")).min() == 0


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (b'{"multiscales": [}', ".zattrs"),
        (b'{"ome": "hello"}', "ome"),
        (
            b'{"multiscales": [{"datasets": [{"path": "0", "coordinateTransformations": [{"type": "affine"}]}]}]}',
            "coordinateTransformations.type",
        ),
    ],
)
def test_attributes_that_say_nothing_are_named_and_the_pixels_read(tmp_path, text, field):
    group = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="w", zarr_format=2)
    group.create_array("0", data=np.eye(4, dtype=np.uint8))
    for content in (text, text.decode().encode("utf-8-sig"), text.decode().encode("utf-16")):
        (tmp_path / "a.ome.zarr/.zattrs").write_bytes(content)
        with pytest.warns(MetadataWarning) as found:
            np.testing.assert_array_equal(np.asarray(read(tmp_path / "a.ome.zarr")), np.eye(4))
        assert {each.message.field for each in found} == {field}


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("element_size_um", 0.5),
        ("element_size_um", "2 0.5 0.5"),
        ("element_size_um", [0.5, 0.5]),
        ("element_size_um", [2, -0.5, 0.5]),
        ("element_size_um", [1, 2, 3, 4]),
        ("element_size_um", np.ones((3, 3))),
        ("element_size_um", np.array([b"2", b"1", b"1"])),
        ("axes", ["z", "y", "c"]),
    ],
)
def test_attributes_of_hdf5_that_are_no_lengths_are_named(tmp_path, attribute, value):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = VOLUME
        file["raw"].attrs[attribute] = value
    with pytest.warns(MetadataWarning) as found:
        assert read(tmp_path / "a.h5").voxel_size is None
    assert [each.message.field for each in found] == [attribute]


@pytest.mark.parametrize(("x", "y", "spacing"), [("um", "nm", (2000, 0.0005, 0.5)), ("sec", "nm", None), ("um", "sec", None)])
def test_imagej_units_of_each_axis(tmp_path, x, y, spacing):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for plane in VOLUME:
            text = f"ImageJ=1.53t\nimages=8\nslices=8\nunit={x}\nyunit={y}\nzunit=mm\nspacing=2\n"
            file.write(plane, description=text, metadata=None, resolution=(2, 2))
    if spacing is not None:
        assert read(tmp_path / "a.tif").spacing == pytest.approx(spacing)
        return
    with pytest.warns(MetadataWarning, match="sec"):
        assert read(tmp_path / "a.tif").voxel_size is None


@pytest.mark.parametrize("kind", [b"pHYs", b"gAMA", b"cHRM"])
def test_metadata_of_png_that_are_cut_short_are_no_damage(tmp_path, kind):
    path = write(tmp_path / "a.png", CELLS.astype(np.uint8), axes="YX")
    content, part = path.read_bytes(), kind + b"\x00"
    place = content.index(b"IDAT") - 4
    path.write_bytes(content[:place] + struct.pack(">I", 1) + part + struct.pack(">I", zlib.crc32(part)) + content[place:])
    with pytest.warns(MetadataWarning) as told:
        np.testing.assert_array_equal(np.asarray(read(path)), CELLS)
    assert [remark.message.field for remark in told] == ["PNG"]
