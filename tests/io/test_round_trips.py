"""What is written is what is read: values, type, axes, voxel size, in every format, 2D and 3D, with channels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from morula.core.axes import canonical
from morula.core.image import Image
from morula.core.voxel_size import VoxelSize
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.testing.errors import raises

SHAPES = {"YX": (13, 11), "ZYX": (5, 13, 11), "CYX": (2, 13, 11), "CZYX": (2, 5, 13, 11), "YXC": (13, 11, 3), "TCZYX": (1, 2, 5, 13, 11)}
TYPES = ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")
VOLUMES = (".tif", ".ome.tif", ".h5", ".zarr", ".ome.zarr", ".nii", ".nii.gz")
LACKS = {".ome.tif": {"uint64", "int64"}, ".nii": {"bool"}, ".nii.gz": {"bool"}}


def values(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    rng = np.random.default_rng(1)
    if dtype == "bool":
        return rng.random(shape) > 0.5
    if dtype.startswith("float"):
        return rng.normal(0, 1000, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("suffix", VOLUMES)
@pytest.mark.parametrize("axes", SHAPES)
def test_volumes(tmp_path, suffix, axes):
    lengths = [2.0, 0.2, 0.3] if "Z" in axes else [0.2, 0.3]
    for dtype in TYPES:
        array = values(SHAPES[axes], dtype)
        path = tmp_path / f"{dtype}{suffix}"
        if dtype in LACKS.get(suffix, ()):
            with raises("format.type"):
                write(path, array, axes=axes, voxel_size=lengths)
            assert list(tmp_path.glob(f"*{dtype}*")) == []
            continue
        assert write(path, array, axes=axes, voxel_size=lengths) == path
        image = read(path)
        assert image.dtype == dtype
        assert image.voxel_size == VoxelSize.of(lengths, len(lengths))
        np.testing.assert_array_equal(image.canonical(), canonical(array, axes))


@pytest.mark.parametrize("suffix", VOLUMES)
def test_without_voxel_size_none_is_invented(tmp_path, suffix):
    assert read(write(tmp_path / f"a{suffix}", values((5, 13, 11), "uint8"), axes="ZYX")).voxel_size is None


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".ome.zarr", ".nii"])
def test_pixel_units_keep_anisotropy(tmp_path, suffix):
    size = VoxelSize(y=1, x=1, z=3, unit="pixel")
    assert read(write(tmp_path / f"a{suffix}", values((5, 13, 11), "uint8"), axes="ZYX", voxel_size=size)).voxel_size == size


@pytest.mark.parametrize("suffix", VOLUMES)
def test_other_units_are_read_as_micrometres(tmp_path, suffix):
    size = VoxelSize(y=120, x=120, z=500, unit="nm")
    assert read(write(tmp_path / f"a{suffix}", values((5, 13, 11), "uint8"), axes="ZYX", voxel_size=size)).spacing == (0.5, 0.12, 0.12)


@pytest.mark.parametrize("suffix", VOLUMES)
@pytest.mark.parametrize(("unit", "um"), [("pm", 1e-6), ("Å", 1e-4), ("mm", 1e3), ("dm", 1e5), ("inch", 25400), ("thou", 25.4)])
def test_every_unit_comes_back(tmp_path, suffix, unit, um):
    size = VoxelSize(y=0.5, x=0.25, z=2, unit=unit)
    found = read(write(tmp_path / f"a{suffix}", values((2, 4, 5), "uint8"), axes="ZYX", voxel_size=size)).spacing
    np.testing.assert_allclose(found, (2 * um, 0.5 * um, 0.25 * um))


def test_pixels_too_small_for_a_picture_are_no_error(tmp_path):
    assert read(write(tmp_path / "a.png", values((4, 5), "uint8"), voxel_size=1e-6)).voxel_size is None


@pytest.mark.parametrize("dtype", TYPES)
def test_npy(tmp_path, dtype):
    array = values((5, 13, 11), dtype)
    image = read(write(tmp_path / "a.npy", array), axes="CYX", voxel_size=0.5)
    np.testing.assert_array_equal(image, array)
    assert (image.axes, image.dtype, image.spacing) == ("CYX", dtype, (0.5, 0.5))


@pytest.mark.parametrize(
    ("suffix", "dtype", "shape"),
    [
        (".png", "bool", (9, 7)), (".png", "uint8", (9, 7)), (".png", "uint16", (9, 7)), (".png", "uint8", (9, 7, 3)),
        (".png", "uint8", (9, 7, 4)),
        (".bmp", "uint8", (9, 7)), (".bmp", "uint8", (9, 7, 3)),
    ],
)  # fmt: skip
def test_pictures(tmp_path, suffix, dtype, shape):
    array = values(shape, dtype)
    image = read(write(tmp_path / f"a{suffix}", array, axes="YXC"[: len(shape)], voxel_size=[0.65, 0.5]))
    np.testing.assert_array_equal(image, array)
    assert image.dtype == dtype
    assert image.spacing == (0.65, 0.5)


def test_jpeg_is_close(tmp_path):
    array = np.tile(np.arange(0, 250, 10, dtype=np.uint8), (32, 1))
    assert abs(np.asarray(read(write(tmp_path / "a.jpg", array))).astype(int) - array).max() < 12


def test_channels_first_colours_become_a_picture(tmp_path):
    array = values((3, 9, 7), "uint8")
    np.testing.assert_array_equal(read(write(tmp_path / "a.png", array, axes="CYX")).canonical(), array)


@pytest.mark.parametrize(
    ("suffix", "array", "axes", "code"),
    [
        (".png", np.zeros((4, 9, 7), np.uint8), "ZYX", "format.dimensions"),
        (".png", np.zeros((9, 7), np.float32), "YX", "format.type"),
        (".jpg", np.zeros((9, 7), np.uint16), "YX", "format.type"),
    ],
)
def test_arrays_that_pictures_cannot_store(tmp_path, suffix, array, axes, code):
    with raises(code):
        write(tmp_path / f"a{suffix}", array, axes=axes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [*VOLUMES, ".npy"])
@pytest.mark.parametrize("high", [70_000, 2**31 + 5, 2**32 - 1])
@pytest.mark.parametrize("shape", [(13, 11), (5, 13, 11)])
def test_large_ids_survive(tmp_path, suffix, high, shape):
    labels = np.zeros(shape, np.uint32)
    labels[..., 3:5, 3:5] = high
    labels[..., 0, 0] = 1
    for name, kind in (("a", np.uint32), ("b", np.int64)):
        if suffix == ".ome.tif" and kind is np.int64:
            continue
        image = read_labels(write(tmp_path / f"{name}{suffix}", labels.astype(kind), labels=True))
        assert image.dtype == np.uint32
        np.testing.assert_array_equal(image, labels)


@pytest.mark.parametrize("suffix", [".tif", ".h5", ".zarr", ".ome.zarr", ".npy"])
def test_images_bring_their_axes_and_lazy_data_are_written(tmp_path, suffix):
    array = values((5, 2, 13, 11), "uint16")
    first = read(write(tmp_path / "first.ome.tif", Image(array, "ZCYX", VoxelSize(0.2, 0.2, 1.0))))
    second = read(write(tmp_path / f"second{suffix}", first), axes="ZCYX" if suffix == ".npy" else None)
    np.testing.assert_array_equal(second.canonical(), canonical(array, "ZCYX"))
    assert suffix == ".npy" or second.voxel_size == VoxelSize(0.2, 0.2, 1.0)


@pytest.mark.parametrize("suffix", [".tif", ".h5", ".zarr", ".ome.zarr"])
def test_single_planes_and_channels_stay_what_they_are(tmp_path, suffix):
    for axes, shape in (("ZYX", (1, 13, 11)), ("CYX", (1, 13, 11)), ("CZYX", (1, 1, 13, 11))):
        image = read(write(tmp_path / f"{axes}{suffix}", values(shape, "uint8"), axes=axes))
        assert (set(image.axes), sorted(image.shape)) == (set(axes), sorted(shape))


@given(array=npst.arrays(st.sampled_from([np.uint8, np.uint16, np.uint32]), npst.array_shapes(min_dims=2, max_dims=3, max_side=9)))
def test_any_labels(tmp_path_factory, array):
    folder = tmp_path_factory.mktemp("any")
    axes = "ZYX"[-array.ndim :]
    for suffix in (".tif", ".h5", ".ome.zarr"):
        path = write(folder / f"a{suffix}", array, axes=axes, labels=True)
        np.testing.assert_array_equal(read_labels(path), array)


def test_pickers(tmp_path):
    array = values((2, 13, 11), "uint16")
    path = write(tmp_path / "a.tif", array, axes="CYX")
    one = read(path, channel=1)
    assert one.axes == "YX"
    np.testing.assert_array_equal(one, array[1])
    assert read(path, axes="ZYX").ndim_spatial == 3
    assert read(path, axes="TCZYX").axes == "ZYX"  # axes of a whole set: this file has neither T nor C
    assert read(path, voxel_size={"y": 1, "x": 2, "unit": "nm"}).voxel_size == VoxelSize(1, 2, unit="nm")
    assert read(str(path)).source == str(path)
    with raises("image.no_channel", value=2):
        read(path, channel=2)
    with raises("axes.count", value="YX"):
        read(path, axes="YX")


def test_what_cannot_be_written(tmp_path):
    with raises("image.empty"):
        write(tmp_path / "a.tif", np.zeros((0, 4)))
    with raises("image.type"):
        write(tmp_path / "a.tif", np.zeros((4, 4), np.complex64))
    with raises("labels.type"):
        write(tmp_path / "a.tif", np.zeros((4, 4), np.float32), labels=True)
    with raises("file.unknown_suffix"):
        write(tmp_path / "a.czi", np.zeros((4, 4), np.uint8))
    with raises("format.lossy_labels"):
        write(tmp_path / "a.jpg", np.zeros((4, 4), np.uint8), labels=True)
    assert list(tmp_path.iterdir()) == []


def test_boolean_labels_become_ids(tmp_path):
    assert read_labels(write(tmp_path / "a.tif", np.eye(9, dtype=bool), labels=True)).dtype == np.uint8
    assert read_labels(write(tmp_path / "b.h5", np.eye(9, dtype=bool))).dtype == np.uint8


def test_the_same_image_is_the_same_file(tmp_path):
    labels = np.eye(9, dtype=np.uint32)
    images = {"a": labels, "b": labels, "c": labels.T + 1}
    contents = [write(tmp_path / f"{name}.ome.tif", image).read_bytes() for name, image in images.items()]
    assert contents[0] == contents[1]
    assert len({content[content.index(b"urn:uuid:") :][:45] for content in contents}) == 2
