"""Files of microscopes: CZI is written by its library; LIF and ND2 have no writer, so that small files are put together here, byte by byte.

The layout of LIF and ND2 files is that which `liffile` and `nd2` document and read.
"""

import gc
import struct
import sys

import mrc
import numpy as np
import psutil
import pytest

from morula.io.formats import czi_process
from morula.io.metadata import collected
from morula.io.pairs import list_images
from morula.io.read import read
from morula.testing.errors import raises

VALUES = (np.arange(2 * 2 * 3 * 6 * 8, dtype=np.uint16) * 7).reshape(2, 2, 3, 6, 8)
"""T, C, Z, Y, X."""


# --- CZI ---------------------------------------------------------------------------------------------------------------------------------


def write_czi(path, scenes=1, *, skip=(), tile=None, colours=False):
    from pylibCZIrw.czi import create_czi

    with create_czi(str(path), compression_options="zstd1:ExplicitLevel=1") as file:
        if colours:
            file.write(np.stack([VALUES[0, 0, 0] + i for i in (0, 100, 200)], -1).astype(np.uint8), plane={"C": 0})
        for scene in range(0 if colours else scenes):
            for t, c, z in np.ndindex(*VALUES.shape[:3]):
                if (t, c, z) in skip:
                    continue
                plane = VALUES[t, c, z] + 1000 * scene
                corners = [(0, 0)] if tile is None else [(x, y) for y in range(0, 6, tile) for x in range(0, 8, tile)]
                for x, y in corners:
                    part = plane[y : y + (tile or 6), x : x + (tile or 8)]
                    at = {"T": t, "C": c, "Z": z}
                    file.write(np.ascontiguousarray(part[..., None]), plane=at, scene=scene, location=(50 + 100 * scene + x, 20 + y))
        file.write_metadata("image", scale_x=2e-7, scale_y=3e-7, scale_z=1e-6)
    return path


def test_czi(tmp_path):
    image = read(write_czi(tmp_path / "a.czi"))
    assert (image.axes, image.dtype, image.spacing, image.voxel_size.unit) == ("TCZYX", "uint16", (1.0, 0.3, 0.2), "um")
    np.testing.assert_array_equal(np.asarray(image), VALUES)
    np.testing.assert_array_equal(image.data[1, :, 2, 1:5:2, 3:7], VALUES[1, :, 2, 1:5:2, 3:7])


def test_scenes_of_czi(tmp_path):
    path = write_czi(tmp_path / "a.czi", scenes=3)
    with raises("scene.ambiguous"):
        read(path)
    for image in (read(path, dataset="2"), read(f"{path}:/2")):
        np.testing.assert_array_equal(np.asarray(image), VALUES + 2000)
    with raises("dataset.missing"):
        read(path, dataset="3")


def test_mosaic_of_czi(tmp_path):
    np.testing.assert_array_equal(np.asarray(read(write_czi(tmp_path / "a.czi", tile=3))), VALUES)


def test_colours_of_czi_are_red_green_blue(tmp_path):
    image = read(write_czi(tmp_path / "a.czi", colours=True))
    assert (image.axes, image.dtype) == ("CYX", "uint8")
    # the library writes blue, green, red
    np.testing.assert_array_equal(np.asarray(image), np.stack([VALUES[0, 0, 0] + i for i in (200, 100, 0)]).astype(np.uint8))


@pytest.mark.parametrize(
    ("part", "other", "field"),
    [
        (b"2e-07", b"abcde", "Scaling.X"),
        (b"2e-07", b"-2e-7", "Scaling.X"),
        (b"2e-07", b"  nan", "Scaling.X"),
        (b'<Distance Id="Z"><Value>1e-06</Value></Distance>', b"", "Scaling.Y, Scaling.X"),
        (b"</Items>", b"</Itemz>", "ImageDocument"),
        (b"<ImageDocument>", b'<!DOCTYPE a [<!ENTITY b "c">]><ImageDocument>', None),
    ],
)
def test_metadata_of_czi_that_mean_nothing_are_told(tmp_path, part, other, field):
    path = write_czi(tmp_path / "a.czi")
    content = path.read_bytes()
    start, stop = content.index(b"<ImageDocument>"), content.index(b"</ImageDocument>") + len(b"</ImageDocument>")
    changed = content[start:stop].replace(b"<Comment>pylibCZIrw generated</Comment>", b"").replace(part, other)
    path.write_bytes(content[:start] + changed.ljust(stop - start) + content[stop:])
    with collected() as warnings:
        image = read(path)
    np.testing.assert_array_equal(np.asarray(image), VALUES)
    assert [warning.field for warning in warnings] == ([] if field is None else [field])
    assert (image.voxel_size is None) == (field is not None)


def test_missing_planes_of_czi(tmp_path):
    path = write_czi(tmp_path / "a.czi", skip=[(1, 0, 2)])
    with raises("image.missing_planes"):
        read(path)
    with collected() as warnings:
        image = read(path, missing="zeros")
    assert [warning.code for warning in warnings] == ["image.missing_planes"]
    assert not np.asarray(image)[1, 0, 2].any()
    np.testing.assert_array_equal(np.asarray(image)[0], VALUES[0])


# --- LIF ---------------------------------------------------------------------------------------------------------------------------------


def write_lif(path, images, *, version=2):
    """Images by name, (C)(T)(Z)YX each with its axes."""
    elements, blocks = [], b""
    for number, (name, (array, axes)) in enumerate(images.items()):
        strides = dict(zip(axes, array.strides, strict=True))
        lengths = {"X": 1.4e-6, "Y": 1.5e-6, "Z": 4e-6, "T": 1.0}
        dimensions = "".join(
            f'<DimensionDescription DimID="{"XYZT".index(letter) + 1}" NumberOfElements="{array.shape[axes.index(letter)]}" Origin="0" '
            f'Length="{lengths[letter]}" Unit="{"s" if letter == "T" else "m"}" BitInc="0" BytesInc="{strides[letter]}"/>'
            for letter in axes[::-1]
            if letter != "C"
        )
        channels = "".join(
            f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{array.itemsize * 8}" NameOfMeasuredQuantity="" Min="0" Max="1" '
            f'Unit="" LUTName="Gray" IsLUTInverted="0" BytesInc="{c * strides.get("C", 0)}" BitInc="0"/>'
            for c in range(array.shape[axes.index("C")] if "C" in axes else 1)
        )
        described = f"<ImageDescription><Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription>"
        memory = f'<Memory Size="{array.nbytes}" MemoryBlockID="MemBlock_{number}"/>'
        elements.append(f'<Element Name="{name}" UniqueID="{number}"><Data><Image>{described}</Image></Data>{memory}</Element>')
        identity = f"MemBlock_{number}"
        blocks += struct.pack("<IIBQBI", 0x70, 0, 0x2A, array.nbytes, 0x2A, len(identity)) + identity.encode("utf-16-le")
        blocks += np.ascontiguousarray(array).tobytes()
    tree = f'<Element Name="p"><Children>{"".join(elements)}</Children></Element>'
    xml = f'<LMSDataContainerHeader Version="{version}">{tree}</LMSDataContainerHeader>'
    path.write_bytes(struct.pack("<IIBI", 0x70, 2 * len(xml) + 5, 0x2A, len(xml)) + xml.encode("utf-16-le") + blocks)
    return path


def test_lif(tmp_path):
    series = np.ascontiguousarray(VALUES.transpose(0, 2, 1, 3, 4))
    path = write_lif(tmp_path / "a.lif", {"cells": (series, "TZCYX"), "plane": (VALUES[0, 0, 0], "YX")})
    with raises("scene.ambiguous"):
        read(path)
    for name in ("cells", "0"):
        image = read(path, dataset=name)
        assert (image.axes, image.dtype, image.spacing) == ("TZCYX", "uint16", (2.0, 0.3, 0.2))
        np.testing.assert_array_equal(np.asarray(image), series)
        np.testing.assert_array_equal(image.data[1, 0:2, :, 3, ::2], series[1, 0:2, :, 3, ::2])
    image = read(f"{path}:/plane")
    assert (image.axes, image.spacing) == ("YX", (0.3, 0.2))


@pytest.mark.parametrize(
    ("part", "other", "field"),
    [
        ('Length="1.4e-06"', 'Length="nan"', "DimensionDescription.X.Length"),
        ('Length="1.4e-06"', 'Length="-1.4e-06"', None),
        ('Length="1.4e-06" Unit="m"', 'Length="1.4e-06" Unit="s"', "DimensionDescription.X.Unit"),
    ],
)
def test_metadata_of_lif_that_mean_nothing_are_told(tmp_path, part, other, field):
    path = write_lif(tmp_path / "a.lif", {"plane": (VALUES[0, 0, 0], "YX")})
    content = path.read_bytes()
    size = struct.unpack_from("<I", content, 9)[0]
    xml = content[13 : 13 + 2 * size].decode("utf-16-le")
    assert part in xml
    xml = xml.replace(part, other)
    path.write_bytes(struct.pack("<IIBI", 0x70, 2 * len(xml) + 5, 0x2A, len(xml)) + xml.encode("utf-16-le") + content[13 + 2 * size :])
    with collected() as warnings:
        image = read(path)
    np.testing.assert_array_equal(np.asarray(image), VALUES[0, 0, 0])
    assert [warning.field for warning in warnings] == ([] if field is None else [field])
    assert (image.voxel_size is None) == (field is not None)
    np.testing.assert_array_equal(np.asarray(image), VALUES[0, 0, 0])


def test_a_lif_that_ends_too_early(tmp_path):
    path = write_lif(tmp_path / "a.lif", {"plane": (VALUES[0, 0, 0], "YX")})
    path.write_bytes(path.read_bytes()[:-10])
    with raises("file.unreadable"):
        read(path)


# --- ND2 ---------------------------------------------------------------------------------------------------------------------------------


def lite(name, value):
    """A value in the form of ND2's metadata: kind, length of the name, name, value."""
    head = (name + "\0").encode("utf-16-le")
    if isinstance(value, dict):
        items = [lite(*item) for item in value.items()]
        body = b"".join(items)
        length = 2 + len(head) + 12 + len(body)
        return struct.pack("BB", 11, len(name) + 1) + head + struct.pack("<IQ", len(items), length) + body + bytes(8 * len(items))
    kind, form = (1, "B") if isinstance(value, bool) else (6, "<d") if isinstance(value, float) else (3, "<I")
    return struct.pack("BB", kind, len(name) + 1) + head + struct.pack(form, value)


def chunk(name, content, reserve=0):
    padded = name + bytes(reserve)
    return struct.pack("<IIQ", 0x0ABECEDA, len(padded), len(content)) + padded + content


def loop(kind, parameters, inner=None):
    return {"eType": kind, "uLoopPars": parameters, **({"ppNextLevelEx": {"i0000000000": inner}} if inner else {})}


def write_nd2(path, values=VALUES, *, positions=1, skip=(), calibrated=True, channels_apart=True, probe=True):
    """Values (T, C, Z, Y, X); at each position 1000 more. Loops: time, position, z; a frame holds all channels of a plane."""
    t, c, z, height, width = values.shape
    zs = loop(4, {"uiCount": z, "dZStep": 1.5, "dZLow": 0.0, "dZHigh": 3.0, "dZHome": 0.0, "bZInverted": False, "iType": 0})
    points = {f"i{i:010}": {"dPosX": 1.0 * i, "dPosY": 0.0, "dPosZ": 0.0} for i in range(positions)}
    places = loop(2, {"Points": points, "bUseZ": False}, zs)
    times = loop(1, {"uiCount": t, "dStart": 0.0, "dPeriod": 1.0, "dDuration": 1.0}, places)
    probes = {"pFluorescentProbe": {"uiColor": 1}} if probe else {}
    planes = {f"a{i}": {"uiCompCount": 1 if channels_apart else c, "uiSampleIndex": i, **probes} for i in range(c if channels_apart else 1)}
    picture = {"bCalibrated": calibrated, "dCalibration": 0.25, "sPicturePlanes": {"uiCount": len(planes), "sPlaneNew": planes}}
    sizes = {"uiWidth": width, "uiHeight": height, "uiWidthBytes": width * c * 2, "uiComp": c, "uiBpcInMemory": 16, "uiBpcSignificant": 16}
    sizes |= {"uiSequenceCount": t * positions * z, "eCompression": 2}
    parts = {
        b"ImageAttributesLV!": lite("SLxImageAttributes", sizes),
        b"ImageMetadataSeqLV|0!": lite("SLxPictureMetadata", picture),
        b"ImageMetadataLV!": lite("SLxExperiment", times),
    }
    for number, (i, p, k) in enumerate(np.ndindex(t, positions, z)):
        if number not in skip:
            frame = np.moveaxis(values[i, :, k] + 1000 * p, 0, -1)
            parts[b"ImageDataSeq|%d!" % number] = struct.pack("<d", 0) + np.ascontiguousarray(frame).tobytes()
    content = chunk(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0"))
    places_of = b""
    for name, part in parts.items():
        places_of += name + struct.pack("<QQ", len(content), len(part))
        # pixels begin 4096 bytes after the chunk: name and padding fill 4072 bytes, and 8 bytes hold the time
        content += chunk(name, part, 4072 - len(name) if name.startswith(b"ImageDataSeq") else 20)
    end = b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", len(content))
    path.write_bytes(content + chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", places_of + end))
    return path


def test_nd2(tmp_path):
    image = read(write_nd2(tmp_path / "a.nd2"))
    assert (image.axes, image.dtype, image.spacing) == ("TCZYX", "uint16", (1.5, 0.25, 0.25))
    np.testing.assert_array_equal(np.asarray(image), VALUES)
    np.testing.assert_array_equal(image.data[1, 0:2, ::2, 1:5, 3:7:2], VALUES[1, 0:2, ::2, 1:5, 3:7:2])


def test_an_nd2_of_which_the_library_cannot_read_the_metadata(tmp_path):
    with collected() as warnings:
        image = read(write_nd2(tmp_path / "a.nd2", probe=False))
    assert [warning.field for warning in warnings] == ["metadata"]
    assert image.voxel_size is None
    np.testing.assert_array_equal(np.asarray(image), VALUES)


def test_positions_of_nd2(tmp_path):
    path = write_nd2(tmp_path / "a.nd2", positions=3)
    with raises("scene.ambiguous"):
        read(path)
    np.testing.assert_array_equal(np.asarray(read(path, dataset="1")), VALUES + 1000)


def test_planes_and_colours_of_nd2(tmp_path):
    plane = VALUES[:1, :1, :1]
    image = read(write_nd2(tmp_path / "a.nd2", plane, calibrated=False))
    assert (image.axes, image.voxel_size) == ("YX", None)
    np.testing.assert_array_equal(np.asarray(image), plane[0, 0, 0])
    colours = VALUES.reshape(1, 3, 4, 6, 8)[:, :, :1]
    image = read(write_nd2(tmp_path / "b.nd2", colours, channels_apart=False))
    assert image.axes == "CYX"
    np.testing.assert_array_equal(np.asarray(image), colours[0, :, 0])


def test_missing_frames_of_nd2(tmp_path):
    path = write_nd2(tmp_path / "a.nd2", skip=[4])
    with raises("image.missing_planes"):
        read(path)
    with collected() as warnings:
        assert not np.asarray(read(path, missing="zeros"))[1, :, 1].any()
    assert [warning.code for warning in warnings] == ["image.missing_planes"]


CRASHES = "import os, signal, sys; sys.stdin.readline(); print(end={half!r}, flush=True); os.kill(os.getpid(), signal.SIGSEGV)"


@pytest.mark.parametrize("half", ["", '{"shape": [1, ', '{"shape": [9], "dtype": "|u1"}\nabc'])
def test_a_crash_of_the_library_is_an_error(tmp_path, monkeypatch, half):
    path = tmp_path / "a.czi"
    write_czi(path)
    image = read(path)
    (tmp_path / "child.py").write_text(CRASHES.format(half=half))
    monkeypatch.setattr(czi_process, "_CHILD", tmp_path / "child.py")
    for use in (lambda: np.asarray(image), lambda: read(path)):
        with raises("file.unreadable", file=str(path)):
            use()


def test_the_process_of_a_file_ends_with_its_image(tmp_path):
    write_czi(tmp_path / "a.czi")
    image = read(tmp_path / "a.czi")
    np.asarray(image)
    children = [child for child in psutil.Process().children() if "czi_child" in " ".join(child.cmdline())]
    assert len(children) == 1
    del image
    gc.collect()
    assert not children[0].is_running()


# --- all ---------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "package"), [("czi", "pylibCZIrw"), ("lif", "liffile"), ("nd2", "nd2")])
def test_without_the_package(tmp_path, monkeypatch, suffix, package):
    path = tmp_path / f"a.{suffix}"
    {"czi": write_czi, "nd2": write_nd2}.get(suffix, lambda path: write_lif(path, {"a": (VALUES[0, 0, 0], "YX")}))(path)
    monkeypatch.setitem(sys.modules, package, None)
    with raises(f"extra.{package.lower()}"):
        read(path)


@pytest.mark.parametrize("suffix", ["czi", "lif", "nd2"])
def test_damaged_files(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"no such format")
    with raises("file.unreadable"):
        read(path)
    assert list_images(tmp_path) == [path]


def test_a_file_read_by_bioio(tmp_path):
    values = VALUES[0]
    mrc.save(values.swapaxes(0, 1), str(tmp_path / "a.dv"), zAxisOrder="z w", metadata={"d": (0.25, 0.25, 1.5), "ImgSequence": 1})
    image = read(tmp_path / "a.dv")
    assert (image.axes, image.dtype, image.spacing) == ("CZYX", "uint16", (1.5, 0.25, 0.25))
    np.testing.assert_array_equal(np.asarray(image), values)
    np.testing.assert_array_equal(image.data[0:2, ::2, 1:5, 3:7:2], values[0:2, ::2, 1:5, 3:7:2])


def test_a_file_for_which_no_plugin_of_bioio_is_installed(tmp_path):
    path = tmp_path / "a.vsi"
    path.write_bytes(b"nothing")
    with raises("extra.bioio", file=str(path)) as caught:
        read(path)
    assert "bioio-bioformats" in caught.error.remedy
