"""TIFF as microscopes and other programs write it, and what others find in ours."""

import math
import os
import xml.etree.ElementTree as ElementTree

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile

from morula.core.errors import FileReadError
from morula.core.voxel_size import VoxelSize
from morula.io.formats import tiff
from morula.io.metadata import MetadataWarning
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.testing.errors import raises

STACK = np.arange(6 * 40 * 50, dtype=np.uint16).reshape(6, 40, 50)


def test_default_is_an_imagej_hyperstack(tmp_path):
    path = write(tmp_path / "a.tif", STACK.reshape(3, 2, 40, 50), axes="ZCYX", voxel_size=[1.5, 0.25, 0.25])
    with tifffile.TiffFile(path) as tif:
        assert tif.imagej_metadata | {"spacing": 1.5, "unit": "um", "slices": 3, "channels": 2} == tif.imagej_metadata
        assert tif.pages[0].tags["XResolution"].value == (4, 1)
        assert tif.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE


def test_ome_suffix_writes_ome_xml(tmp_path):
    path = write(tmp_path / "a.ome.tif", STACK, axes="ZYX", voxel_size=[1.5, 0.25, 0.3])
    with tifffile.TiffFile(path) as tif:
        pixels = next(e for e in ElementTree.fromstring(tif.ome_metadata).iter() if e.tag.endswith("Pixels"))
    assert (pixels.get("SizeZ"), pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeZ"), pixels.get("PhysicalSizeZUnit")) == (
        "6",
        "0.3",
        "1.5",
        "µm",
    )


def test_ids_that_imagej_cannot_hold_keep_their_type_and_size(tmp_path):
    labels = np.full((5, 8, 9), 2**31 + 1, np.uint32)
    path = write(tmp_path / "a.tif", labels, axes="ZYX", voxel_size=[2, 1, 1], labels=True)
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome
        assert tif.series[0].dtype == np.uint32
    assert read_labels(path).spacing == (2, 1, 1)


def test_large_files_are_bigtiff(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "_BIG", 1000)
    path = write(tmp_path / "a.tif", STACK, axes="ZYX", voxel_size=[2, 1, 1])
    with tifffile.TiffFile(path) as tif:
        assert tif.is_bigtiff
    assert read(path).spacing == (2, 1, 1)


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif"])
@pytest.mark.parametrize(("shape", "axes"), [((6, 40, 50), "ZYX"), ((2, 3, 40, 50), "CZYX"), ((40, 50), "YX"), ((3, 40, 50, 3), "ZYXC")])
def test_large_arrays_are_written_a_page_at_a_time(tmp_path, monkeypatch, suffix, shape, axes):
    monkeypatch.setattr(tiff, "BLOCK_BYTES", 100)
    array = np.arange(math.prod(shape)).astype(np.uint8).reshape(shape)
    source = read(write(tmp_path / "a.h5", array, axes=axes))
    found = read(write(tmp_path / f"a{suffix}", source))
    np.testing.assert_array_equal(found.canonical(), source.canonical())


@pytest.mark.parametrize("ome", [True, False])
def test_tiled_files_are_read_by_tiles(tmp_path, ome):
    array = np.arange(300 * 400, dtype=np.uint16).reshape(300, 400)
    tifffile.imwrite(tmp_path / "a.tif", array, tile=(64, 64), compression="zlib", ome=ome)
    np.testing.assert_array_equal(read(tmp_path / "a.tif").data[100:150, 70:200], array[100:150, 70:200])


def test_pyramids(tmp_path):
    array = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(array, subifds=1, metadata={"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5})
        tif.write(array[::2, ::2], subfiletype=1)
    coarse = read(tmp_path / "a.ome.tif", level=1)
    np.testing.assert_array_equal(coarse, array[::2, ::2])
    assert coarse.spacing == (1.0, 1.0)
    with raises("level.missing", value=2):
        read(tmp_path / "a.ome.tif", level=2)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_pages_without_metadata_are_z(tmp_path, compression):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for page in STACK:
            tif.write(page, metadata=None, compression=compression)
    image = read(tmp_path / "a.tif")
    assert image.axes == "ZYX"
    np.testing.assert_array_equal(image, STACK)
    tifffile.imwrite(tmp_path / "b.tif", STACK)
    assert read(tmp_path / "b.tif").axes == "ZYX"


@pytest.mark.parametrize("samples", [3, 4])
def test_samples_are_channels(tmp_path, samples):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 50, samples), np.uint8), photometric="rgb", metadata=None)
    assert read(tmp_path / "a.tif").axes == "YXC"
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((6, 40, 50, samples), np.uint8), photometric="rgb")
    assert read(tmp_path / "b.tif").axes == "ZYXC"


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [((72, 72), 2, None), ((300, 300), 2, None), ((50_000, 20_000), 3, (0.5, 0.2)), ((254_000, 254_000), 2, (0.1, 0.1)), ((4, 4), 1, None)],
)
def test_plain_resolution_counts_where_it_can_be_a_microscope(tmp_path, resolution, unit, expected):
    tifffile.imwrite(tmp_path / "a.tif", STACK[0], resolution=resolution, resolutionunit=unit, metadata=None)
    size = read(tmp_path / "a.tif").voxel_size
    assert size == (None if expected is None else VoxelSize(*expected))


def test_a_stack_without_z_length_has_no_size(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, resolution=(50_000, 50_000), resolutionunit=3)
    assert read(tmp_path / "a.tif").voxel_size is None


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"unit": "micron", "spacing": -2.0}, VoxelSize(0.25, 0.25, 2.0)),
        ({"unit": "\\u00B5m", "spacing": 2.0}, VoxelSize(0.25, 0.25, 2.0)),
        ({"spacing": 3.0}, VoxelSize(0.25, 0.25, 3.0, "pixel")),
    ],
)  # fmt: skip
def test_imagej_units(tmp_path, metadata, expected):
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, resolution=(4, 4), metadata={"axes": "ZYX", **metadata})
    assert read(tmp_path / "a.tif").voxel_size == expected


def test_ome_units(tmp_path):
    sizes = {"PhysicalSizeX": 250.0, "PhysicalSizeY": 250.0, "PhysicalSizeZ": 1.0}
    units = {"PhysicalSizeXUnit": "nm", "PhysicalSizeYUnit": "nm", "PhysicalSizeZUnit": "µm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", STACK, metadata={"axes": "ZYX", **sizes, **units})
    assert read(tmp_path / "a.ome.tif").voxel_size == VoxelSize(0.25, 0.25, 1.0)


def test_several_images_are_named(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(STACK)
        tif.write(STACK[:, ::-1])
    with raises("tiff.several_series"):
        read(tmp_path / "a.tif")
    np.testing.assert_array_equal(read(tmp_path / "a.tif", dataset="1"), STACK[:, ::-1])
    with raises("tiff.no_series"):
        read(tmp_path / "a.tif", dataset="raw")


@pytest.mark.parametrize("kind", [{"imagej": True}, {"ome": True}, {}, {"metadata": None}])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("part", [0.001, 0.05, 0.4, 0.8, 0.97])
def test_truncated_files_are_errors_in_words(tmp_path, kind, compression, part):
    tifffile.imwrite(tmp_path / "whole.tif", STACK, compression=compression, **kind)
    data = (tmp_path / "whole.tif").read_bytes()
    path = tmp_path / "cut.tif"
    path.write_bytes(data[: math.ceil(len(data) * part)])
    with pytest.raises(FileReadError) as caught:
        np.asarray(read(path))
    assert caught.value.code in ("file.unreadable", "tiff.missing_planes")


def test_damaged_pixels_are_errors_when_they_are_read(tmp_path):
    path = write(tmp_path / "a.tif", STACK, axes="ZYX")
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[3].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 64)
    image = read(path)
    np.testing.assert_array_equal(image.data[0], STACK[0])
    with raises("file.unreadable"):
        image.data[3]


def test_big_endian_is_read_as_native(tmp_path):
    for number, compression in enumerate((None, "zlib")):
        tifffile.imwrite(tmp_path / f"{number}.tif", STACK, byteorder=">", compression=compression)
        image = read(tmp_path / f"{number}.tif")
        assert image.data[2:4].dtype == np.dtype(np.uint16)
        np.testing.assert_array_equal(image, STACK)


def _ome_file(path, pixels, planes="<TiffData/>", end="</Pixels></Image></OME>"):
    text = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" {pixels}>'
    with tifffile.TiffWriter(path) as file:
        for number, plane in enumerate(STACK):
            file.write(plane, description=f"{text}{planes}{end}" if not number else None, metadata=None)
    return path


PIXELS = (
    f'DimensionOrder="XYZCT" Type="{STACK.dtype}" SizeX="{STACK.shape[2]}" SizeY="{STACK.shape[1]}" SizeZ="{len(STACK)}" '
    'SizeC="1" SizeT="1"'
)


@pytest.mark.parametrize(
    ("pixels", "end", "field"),
    [
        (PIXELS.replace("XYZCT", "ABCDE"), "</Pixels></Image></OME>", "OME-XML"),
        (PIXELS.replace("XYZCT", "XYZZT"), "</Pixels></Image></OME>", "OME-XML"),
        (PIXELS.replace('SizeC="1"', ""), "</Pixels></Image></OME>", "OME-XML"),
        (PIXELS, "</Pix", "OME-XML"),
        (PIXELS, "</Pixels></Image><BinaryOnly MetadataFile='c.ome'/></OME>", "BinaryOnly.MetadataFile"),
        (f'{PIXELS} PhysicalSizeX="0.5" PhysicalSizeY="0.5"', "</Pixels></Image></OME>", "PhysicalSizeY, PhysicalSizeX"),
        (PIXELS.replace(str(STACK.dtype), "float"), "</Pixels></Image></OME>", "Type"),
        (PIXELS.replace('SizeX="', 'SizeX="9'), "</Pixels></Image></OME>", "SizeX"),
        (PIXELS.replace('SizeZ="', 'SizeZ="-'), "</Pixels></Image></OME>", "SizeZ"),
    ],
)
def test_unsound_ome_metadata_are_named_and_the_pixels_read(tmp_path, pixels, end, field):
    with pytest.warns(MetadataWarning) as found:
        image = read(_ome_file(tmp_path / "a.ome.tif", pixels, end=end))
    np.testing.assert_array_equal(np.asarray(image), STACK)
    assert [each.message.field for each in found] == [field]


def test_planes_in_files_outside_of_the_folder_are_refused(tmp_path):
    (tmp_path / "images").mkdir()
    _ome_file(tmp_path / "other.ome.tif", PIXELS)
    os.mkfifo(tmp_path / "images" / "pipe.tif")
    for name in ("../other.ome.tif", "&#46;&#46;/other.ome.tif", str(tmp_path / "other.ome.tif"), "pipe.tif"):
        planes = f'<TiffData IFD="0" PlaneCount="{len(STACK)}"><UUID FileName="{name}">urn:uuid:0</UUID></TiffData>'
        with raises("tiff.outside"):
            read(_ome_file(tmp_path / "images" / "a.ome.tif", PIXELS, planes))


def test_planes_beyond_those_that_ome_declares_are_told(tmp_path):
    pixels = PIXELS.replace(f'SizeZ="{len(STACK)}"', 'SizeZ="2"')
    with pytest.warns(MetadataWarning) as found:
        image = read(_ome_file(tmp_path / "a.ome.tif", pixels))
    np.testing.assert_array_equal(np.asarray(image), STACK[:2])
    assert (found[0].message.field, found[0].message.value) == ("SizeZ x SizeC x SizeT", "2 x 1 x 1")


@pytest.mark.parametrize(("unit", "um"), [("dm", 1e5), ("fm", 1e-9), ("thou", 25.4), ("pt", 25400 / 72), ("ft", 304800), ("km", 1e9)])
def test_rare_units_of_ome(tmp_path, unit, um):
    sizes = " ".join(f'PhysicalSize{letter}="2" PhysicalSize{letter}Unit="{unit}"' for letter in "XYZ")
    assert read(_ome_file(tmp_path / "a.ome.tif", f"{PIXELS} {sizes}")).spacing == pytest.approx((2 * um,) * 3)


def test_a_turned_picture_is_told(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK[0], extratags=[(274, "H", 1, 6, True)])
    with pytest.warns(MetadataWarning, match="Orientation"):
        assert read(tmp_path / "a.tif").shape == STACK[0].shape
    plane = PIL.Image.fromarray(np.eye(8, 9, dtype=np.uint8))
    exif = PIL.Image.Exif()
    exif[274] = 6
    plane.save(tmp_path / "a.png", exif=exif)
    with pytest.warns(MetadataWarning, match="Orientation"):
        assert read(tmp_path / "a.png").shape == (8, 9)
    plane.save(tmp_path / "b.png", save_all=True, append_images=[plane.rotate(90)])
    with pytest.warns(MetadataWarning, match="frames"):
        assert read(tmp_path / "b.png").shape == (8, 9)


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_colours_of_16_bits_are_read(tmp_path, samples):
    colours = (np.arange(8 * 9 * samples, dtype=np.uint16) * 211 + 700).reshape(8, 9, samples)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(colours))
    image = read(tmp_path / "a.png", axes="YXC")
    assert image.data.dtype == np.uint16
    np.testing.assert_array_equal(image.canonical(), np.moveaxis(colours, -1, 0))
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "b.png").write_bytes(content)
    with raises("file.unreadable", file=str(tmp_path / "b.png")):
        read(tmp_path / "b.png").canonical()
