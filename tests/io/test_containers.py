"""HDF5, plain Zarr, NIfTI and the optional formats."""

import gzip
import json
import os

import h5py
import nibabel
import numpy as np
import pytest
import zarr

from morula.core.voxel_size import VoxelSize
from morula.io.metadata import MetadataWarning, collected
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.testing.errors import raises

STACK = np.arange(6 * 40 * 50, dtype=np.uint16).reshape(6, 40, 50)


@pytest.fixture
def both(tmp_path):
    """A file as pytorch-3dunet uses it."""
    path = tmp_path / "both.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = STACK
        file["label"] = (STACK % 7).astype(np.int64)
        file["label"].attrs["element_size_um"] = [2.0, 0.5, 0.5]
        file["note"] = "no image"
    return path


def test_the_obvious_data_set(both):
    np.testing.assert_array_equal(read(both), STACK)
    labels = read_labels(both)
    np.testing.assert_array_equal(labels, STACK % 7)
    assert labels.voxel_size == VoxelSize(0.5, 0.5, 2.0)


def test_spellings_of_a_data_set(both):
    for image in (
        read(both, dataset="label"),
        read(both, dataset="/label"),
        read(f"{both}:/label"),
        read(f"{both}:label"),
        read(both / "label"),
    ):
        assert int(image.data[0, 0, 6]) == 6


def test_ambiguous_and_absent_data_sets_are_listed(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["t0/a"] = STACK
        file["t0/b"] = STACK[0]
    with raises("dataset.ambiguous"):
        read(tmp_path / "a.h5")
    with raises("dataset.missing", value="t0/aa", remedy="Did you mean 't0/a'?"):
        read(tmp_path / "a.h5", dataset="t0/aa")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"] = np.zeros(4)
    with raises("dataset.none"):
        read(tmp_path / "b.h5")


def test_ilastik_axes(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["exported_data"] = np.zeros((6, 40, 50, 2))
        file["exported_data"].attrs["axistags"] = json.dumps({"axes": [{"key": key} for key in "zyxc"]})
    assert read(tmp_path / "a.h5").axes == "ZYXC"


def test_a_data_set_is_added_in_one_step(both):
    write(both, STACK[::-1], dataset="predictions")
    assert sorted(h5py.File(both)) == ["label", "note", "predictions", "raw"]
    with raises("dataset.exists", value="raw"):
        write(both, STACK[::-1], dataset="raw")
    write(f"{both}:/raw", STACK[::-1], overwrite=True)
    np.testing.assert_array_equal(read(both), STACK[::-1])
    np.testing.assert_array_equal(read_labels(both), STACK % 7)


def test_without_a_name_the_whole_file_is_meant(both, tmp_path):
    with raises("file.exists"):
        write(both, STACK)
    with raises("output.not_own"):  # it holds labels, too
        write(both, STACK, overwrite=True)
    alone = write(tmp_path / "alone.h5", STACK[0])
    write(alone, STACK, overwrite=True)
    with h5py.File(alone) as file:
        assert list(file) == ["raw"]
        assert list(file["raw"].dims[0].label) == ["z"]


def test_hdf5_is_never_written_when_read(both):
    both.chmod(0o444)
    before = both.stat().st_mtime_ns
    np.asarray(read(both))
    assert both.stat().st_mtime_ns == before


@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_truncated_hdf5(both, part):
    data = both.read_bytes()
    both.write_bytes(data[: int(len(data) * part)])
    with raises("file.unreadable"):
        np.asarray(read(both))


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_versions(tmp_path, version):
    zarr.create_array(
        str(tmp_path / "a.zarr"), data=STACK, chunks=(2, 20, 25), zarr_format=version, attributes={"element_size_um": [2, 1, 1]}
    )
    image = read(tmp_path / "a.zarr")
    np.testing.assert_array_equal(image, STACK)
    assert (image.axes, image.spacing) == ("ZYX", (2, 1, 1))


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_groups(tmp_path, version):
    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=version)
    group.create_array("volumes/raw", data=STACK)
    group.create_array("volumes/labels/ids", data=STACK % 5)
    group.create_array("volumes/line", data=np.zeros(4))
    np.testing.assert_array_equal(read(tmp_path / "a.zarr"), STACK)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.zarr", dataset="volumes/labels/ids"), STACK % 5)
    np.testing.assert_array_equal(read(f"{tmp_path}/a.zarr:/volumes/raw"), STACK)
    with raises("dataset.ambiguous"):
        read_labels(tmp_path / "a.zarr")
    with raises("image.dimensions"):
        read(tmp_path / "a.zarr" / "volumes" / "line")
    with raises("dataset.missing", value="nothing"):
        read(tmp_path / "a.zarr", dataset="nothing")


def test_writing_into_a_zarr_group(tmp_path):
    write(tmp_path / "a.zarr", STACK, dataset="volumes/raw", voxel_size=[2, 1, 1])
    write(f"{tmp_path}/a.zarr/volumes/label", STACK % 7, labels=True)
    assert sorted(zarr.open_group(str(tmp_path / "a.zarr"), mode="r")["volumes"].array_keys()) == ["label", "raw"]
    np.testing.assert_array_equal(read(tmp_path / "a.zarr"), STACK)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.zarr"), STACK % 7)


@pytest.mark.parametrize("version", [2, 3])
def test_damaged_zarr_chunks_and_metadata(tmp_path, version):
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), data=STACK, chunks=(2, 40, 50), zarr_format=version)
    chunk = max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])
    image = read(path)
    with raises("file.unreadable"):
        np.asarray(image)
    metadata = path / ("zarr.json" if version == 3 else ".zarray")
    metadata.write_text(metadata.read_text()[:40])
    with raises("file.unreadable"):
        read(path)


def test_uncompressed_zarr_chunk_cut_short(tmp_path):
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), data=STACK, chunks=(6, 40, 50), compressors=None)
    chunk = max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    chunk.write_bytes(chunk.read_bytes()[:1000])
    with raises("file.unreadable"):
        read(path).data[0]


def test_nifti_of_others(tmp_path):
    header = nibabel.Nifti1Header()
    image = nibabel.Nifti1Image(STACK.T.astype(np.int16), np.eye(4), header)
    image.header.set_zooms((0.25, 0.25, 1.0))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "a.nii")
    found = read(tmp_path / "a.nii")
    assert (found.axes, found.shape, found.spacing) == ("ZYX", STACK.shape, (1000, 250, 250))
    image.header.set_slope_inter(0.5, 3)
    scaled = nibabel.Nifti1Image(STACK.T.astype(np.float64), np.eye(4))
    scaled.set_data_dtype(np.int16)
    nibabel.save(scaled, tmp_path / "b.nii")
    np.testing.assert_allclose(read(tmp_path / "b.nii"), STACK, atol=0.2)


@pytest.mark.parametrize(("lengths", "spacing"), [((0, 0.5, 2), None), ((-0.25, 0.5, 2), (2000, 500, 250)), ((np.nan, 0.5, 2), None)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_lengths_of_nifti_that_are_not_positive(tmp_path, lengths, spacing, suffix):
    image = nibabel.Nifti1Image(STACK.T.astype(np.int16), None)
    image.header.set_xyzt_units("mm")
    image.header["pixdim"][1:4] = lengths
    nibabel.save(image, tmp_path / f"a{suffix}")
    with pytest.warns(MetadataWarning, match="pixdim"):
        found = read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(found.data, STACK)
    assert (found.voxel_size and found.spacing) == spacing


def test_truncated_nifti(tmp_path):
    for suffix in (".nii", ".nii.gz"):
        path = write(tmp_path / f"a{suffix}", STACK)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        with raises("file.unreadable"):
            np.asarray(read(path))
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(b"no image at all" * 100))
    with raises("file.unreadable"):
        read(tmp_path / "b.nii.gz")


def test_formats_of_one_image_refuse_names_and_levels(tmp_path):
    path = write(tmp_path / "a.png", STACK[0])
    with raises("dataset.not_applicable", value="raw"):
        read(path, dataset="raw")
    with raises("level.not_applicable", value=1):
        read(path, level=1)


def test_n5_and_precomputed_name_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorstore", None)
    for name, file, content in (
        ("a.n5", "attributes.json", {"dimensions": [5, 4, 3]}),
        ("b", "info", {"scales": [{"resolution": [8, 8, 8]}]}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(json.dumps(content))
        with raises("extra.tensorstore"):
            read(tmp_path / name)


def test_n5(tmp_path):
    tensorstore = pytest.importorskip("tensorstore")
    metadata = {"dimensions": [50, 40, 6], "blockSize": [16, 16, 4], "dataType": "uint16", "compression": {"type": "gzip"}}
    store = {"driver": "file", "path": f"{tmp_path}/a.n5/volumes/raw/"}
    array = tensorstore.open({"driver": "n5", "kvstore": store, "metadata": metadata}, create=True).result()
    array.write(STACK.T).result()
    attributes = tmp_path / "a.n5" / "volumes" / "raw" / "attributes.json"
    attributes.write_text(json.dumps({**json.loads(attributes.read_text()), "pixelResolution": {"dimensions": [8, 8, 50], "unit": "nm"}}))
    image = read(tmp_path / "a.n5")
    assert (image.axes, image.spacing) == ("ZYX", (0.05, 0.008, 0.008))
    np.testing.assert_array_equal(image, STACK)
    np.testing.assert_array_equal(image.data[1:4, ::7, 3], STACK[1:4, ::7, 3])
    block, outside = attributes.parent / "1" / "1" / "0", tmp_path / "block"
    block.rename(outside)
    with raises("zarr.missing_chunks"):
        read(tmp_path / "a.n5")
    with pytest.warns(MetadataWarning):
        assert not read(tmp_path / "a.n5", missing="zeros").data[:4, 16:32, 16:32].any()
    block.symlink_to(outside)
    with raises("container.link_outside"):
        read(tmp_path / "a.n5")
    block.unlink()
    os.mkfifo(block)
    with raises("file.not_regular"):
        read(tmp_path / "a.n5")


@pytest.mark.parametrize(
    ("attributes", "spacing", "field"),
    [
        ({"resolution": [8, 8, 50]}, (0.05, 0.008, 0.008), None),
        ({"resolution": [8, 8, 0.05], "units": ["nm", "nm", "um"]}, (0.05, 0.008, 0.008), None),
        ({"resolution": ["8", "8", "50"]}, (0.05, 0.008, 0.008), None),
        ({"pixelResolution": {"dimensions": [8, 8, 50], "unit": None}}, (0.05, 0.008, 0.008), None),
        ({"resolution": None}, None, None),
        ({"resolution": "8,8,50"}, None, "resolution"),
        ({"resolution": [8, 8]}, None, "resolution"),
        ({"resolution": ["a", 8, 8]}, None, "resolution.X"),
        ({"resolution": [8, 8, -1]}, None, "resolution.Z"),
        ({"pixelResolution": "x"}, None, "pixelResolution"),
        ({"pixelResolution": {"dimensions": [8, 8, 50], "unit": "parsec"}}, None, "units.X"),
    ],
)
def test_n5_is_read_whatever_its_resolution(tmp_path, attributes, spacing, field):
    tensorstore = pytest.importorskip("tensorstore")
    metadata = {"dimensions": [50, 40, 6], "blockSize": [16, 16, 4], "dataType": "uint16", "compression": {"type": "gzip"}}
    store = {"driver": "file", "path": f"{tmp_path}/a.n5/"}
    tensorstore.open({"driver": "n5", "kvstore": store, "metadata": metadata}, create=True).result().write(STACK.T).result()
    (tmp_path / "a.n5/attributes.json").write_text(json.dumps({**metadata, **attributes}))
    with collected() as warnings:
        image = read(tmp_path / "a.n5")
    np.testing.assert_array_equal(image, STACK)
    assert (None if image.voxel_size is None else image.spacing) == spacing
    assert ([warning.field for warning in warnings] or [None])[0] == field


def test_precomputed(tmp_path):
    tensorstore = pytest.importorskip("tensorstore")
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{tmp_path}/a/"},
        "multiscale_metadata": {"data_type": "uint16", "num_channels": 1, "type": "image"},
        "scale_metadata": {
            "size": [50, 40, 6],
            "resolution": [8, 8, 50],
            "encoding": "raw",
            "chunk_size": [16, 16, 6],
            "voxel_offset": [9, 5, 2],
        },
    }
    tensorstore.open(spec, create=True).result().write(STACK.T[..., None]).result()
    image = read(tmp_path / "a")
    assert (image.axes, image.spacing) == ("ZYX", (0.05, 0.008, 0.008))
    np.testing.assert_array_equal(image.data[2:5, 10:, ::3], STACK[2:5, 10:, ::3])


@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
def test_several_data_sets_are_channels(tmp_path, suffix):
    rng = np.random.default_rng(0)
    raw, two = rng.integers(0, 9, (4, 5, 6), np.uint8), rng.random((2, 4, 5, 6)).astype(np.float32)
    file = tmp_path / f"a{suffix}"
    write(file, raw, axes="ZYX", dataset="raw")
    write(file, two, axes="CZYX", dataset="two")
    image = read(f"{file}:/raw,two")
    assert (image.axes, image.shape, image.dtype) == ("CZYX", (3, 4, 5, 6), np.float32)
    np.testing.assert_array_equal(np.asarray(image.data), np.concatenate([raw[None].astype(np.float32), two]))
    np.testing.assert_array_equal(image.data[1:, 2, :, ::2], two[:, 2, :, ::2])
    np.testing.assert_array_equal(np.asarray(read(file, dataset="two,raw").data)[2], raw)
    write(file, raw[1:], axes="ZYX", dataset="less")
    with raises("image.shapes_differ"):
        read(f"{file}:/raw,less")
    write(file, raw + 1, axes="ZYX", dataset="raw,two")  # the name of one
    np.testing.assert_array_equal(np.asarray(read(file, dataset="raw,two")), raw + 1)
