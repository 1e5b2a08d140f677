"""Damaged and unusual files: missing parts are errors that name them, invalid metadata are ignored where the pixels are readable."""

import json
import re
import struct
import zlib

import h5py
import numpy as np
import pytest
import tifffile

from morula.io.metadata import MetadataWarning, collected
from morula.io.pairs import list_images
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.testing.errors import raises

PLANE = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
VOLUME = np.stack([PLANE + z for z in range(4)])


def failure(path):
    """The error of reading a file whole, `None` where it can be read."""
    try:
        with np.errstate(all="ignore"), collected():
            np.asarray(read_labels(path))
    except (OSError, ValueError) as error:
        return error
    return None


@pytest.mark.parametrize("options", [{"tile": (16, 16)}, {"compression": "zlib"}])
def test_all_levels_of_a_pyramid_are_read(tmp_path, options):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tif:
        tif.write(PLANE, subifds=1, **options)
        tif.write(PLANE[::2, ::2], subfiletype=1, **options)
    np.testing.assert_array_equal(read(tmp_path / "a.ome.tif").data[...], PLANE)
    np.testing.assert_array_equal(read(tmp_path / "a.ome.tif", level=1).data[...], PLANE[::2, ::2])


def test_imagej_stack_with_a_step_of_one_unit(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", VOLUME, imagej=True, resolution=(2, 2), metadata={"axes": "ZYX", "unit": "um"})
    assert read(tmp_path / "a.tif").spacing == (1.0, 0.5, 0.5)


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".ome.zarr", ".h5", ".nii"])
def test_angstrom_is_written_and_read(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", VOLUME, axes="ZYX", voxel_size={"z": 20.0, "y": 5.0, "x": 5.0, "unit": "Å"})
    assert read(path).spacing == pytest.approx((0.002, 0.0005, 0.0005))


def test_planes_that_the_metadata_declare_but_the_file_lacks(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, VOLUME, ome=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata.replace('SizeZ="4"', 'SizeZ="6"').replace('PlaneCount="4"', 'PlaneCount="6"')
    tifffile.imwrite(path, VOLUME, description=xml, metadata=None, photometric="minisblack")
    with raises("tiff.missing_planes", file=str(path)):
        read(path)


@pytest.mark.parametrize("options", [{"rowsperstrip": 16}, {"tile": (16, 16)}])
def test_strips_and_tiles_without_data(tmp_path, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANE, compression="zlib", **options)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tag = tif.pages[0].tags["TileByteCounts" if "tile" in options else "StripByteCounts"]
        tag.overwrite([*tag.value[:2], 0, *tag.value[3:]])
    with raises("tiff.missing_segments", file=str(path)) as caught:
        np.asarray(read(path))
    assert ": 2 (of" in caught.error.rule


@pytest.mark.parametrize(("tag", "value"), [(256, 0), (256, 2**32 - 1), (257, 2**32 - 1), (278, 0), (277, 0), (258, 7)])
def test_tags_of_impossible_values(tmp_path, tag, value):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANE, compression="zlib", rowsperstrip=16)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages[0].tags[tag].overwrite(value)
    error = failure(path)
    assert error is None or str(path) in str(error)


@pytest.mark.parametrize("size", ["SizeZ", "SizeC", "SizeT"])
def test_ome_metadata_of_more_planes_than_any_file_has(tmp_path, size, monkeypatch):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, VOLUME, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as tif:
        described = re.sub(rf'{size}="\d+"', f'{size}="1000000000"', tif.ome_metadata or "")
    tifffile.imwrite(path, VOLUME, description=described.encode(), metadata=None, photometric="minisblack")
    # tifffile makes a list of all planes, which takes a minute and all memory
    monkeypatch.setattr(tifffile.TiffFile, "series", property(lambda _: pytest.fail("the planes are listed")))
    with raises("image.implausible_size"):
        read(path)


def test_a_picture_that_declares_more_than_can_be_decoded(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    )
    with raises("image.too_large", file=str(tmp_path / "a.png")):
        read(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("key", "value"), [("axistags", "{oops"), ("axistags", "[1]"), ("axes", 5), ("DIMENSION_LABELS", np.array([b"\xff", b"y"]))]
)
def test_attributes_of_another_type_are_ignored(tmp_path, key, value):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = PLANE
        file["raw"].attrs[key] = value
    with pytest.warns(MetadataWarning) as caught:
        np.testing.assert_array_equal(read(tmp_path / "a.h5").data[...], PLANE)
    assert {each.message.field for each in caught} == {key}


@pytest.mark.parametrize("damage", [{"attributes": [1, 2]}, {"attributes": {"ome": {"multiscales": [{"datasets": 3}]}}}, {"attributes": 7}])
def test_metadata_of_an_ome_zarr_of_another_type(tmp_path, damage):
    path = write(tmp_path / "a.ome.zarr", VOLUME)
    metadata = json.loads((path / "zarr.json").read_text())
    (path / "zarr.json").write_text(json.dumps(metadata | damage))
    error = failure(path)
    assert error is None or str(path) in str(error)


def test_a_plain_zarr_folder_is_an_image(tmp_path):
    write(tmp_path / "images" / "a.zarr", PLANE)
    assert [path.name for path in list_images(tmp_path / "images")] == ["a.zarr"]


def test_links_do_not_loop(tmp_path):
    write(tmp_path / "images" / "deep" / "a.tif", PLANE)
    for name in ("one", "two"):
        (tmp_path / "images" / name).symlink_to(tmp_path / "images")
    assert [path.name for path in list_images(tmp_path / "images" / "**" / "*.tif")] == ["a.tif"]
    group = write(tmp_path / "g.zarr", PLANE, dataset="raw")
    (tmp_path / "g.zarr" / "loop").symlink_to(tmp_path / "g.zarr")
    np.testing.assert_array_equal(read(tmp_path / "g.zarr").data[...], PLANE)
    assert group.exists()


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".h5", ".npy", ".nii", ".nii.gz", ".png"])
def test_mutated_files_end_in_an_error_that_names_the_file(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", PLANE if suffix == ".png" else VOLUME, axes="YX" if suffix == ".png" else "ZYX", labels=True)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(30):
        mutated = bytearray(content)
        for place in rng.integers(0, min(len(content), 2000), rng.integers(1, 8)):
            mutated[place] = rng.integers(0, 256)
        path.write_bytes(bytes(mutated[: rng.integers(1, len(mutated) + 1)] if rng.random() < 0.3 else mutated))
        error = failure(path)
        assert error is None or str(path) in str(error), repr(error)
