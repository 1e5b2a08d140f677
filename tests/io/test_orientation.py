"""NIfTI: images and labels are turned to RAS by their matrices, and results overlay the image in world coordinates."""

import nibabel
import numpy as np
import pytest

from morula.core.region import Region
from morula.io.lazy import take_region
from morula.io.metadata import MetadataWarning, collected
from morula.io.pairs import pair_images
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.workflows.sources import Truth, open_truth

ARRAY = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
"""In the order x, y, z, right, anterior, superior."""
CANONICAL = np.diag([0.5, 1.0, 2.0, 1.0])


def stored(path, directions, array=ARRAY, affine=CANONICAL):
    """The image as a program stores it whose axes point in these directions."""
    image = nibabel.Nifti1Image(array, affine)
    wanted = nibabel.orientations.axcodes2ornt(directions)
    nibabel.save(image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), wanted)), path)
    return path


@pytest.mark.parametrize("directions", ["RAS", "LPS", "SAR", "PIL", "ASR"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_orientation_is_read_alike(tmp_path, directions, suffix):
    image = read(stored(tmp_path / f"a{suffix}", directions))
    assert image.axes == "ZYX"
    assert image.spacing == (2.0, 1.0, 0.5)
    np.testing.assert_array_equal(image, ARRAY.T)
    np.testing.assert_array_equal(image.data[1:4:2, ::-2, 2], ARRAY.T[1:4:2, ::-2, 2])


@pytest.mark.parametrize("directions", ["LPS", "SAR"])
def test_results_overlay_their_image(tmp_path, directions):
    path = stored(tmp_path / "a.nii", directions)
    result = nibabel.load(write(tmp_path / "b.nii.gz", read(path)))
    source = nibabel.load(path)
    for voxel in ((0, 0, 0), (1, 2, 3)):
        world = source.affine @ [*voxel, 1]
        place = np.rint(np.linalg.inv(result.affine) @ world).astype(int)[:3]
        assert source.dataobj[voxel] == result.dataobj[tuple(place)]


@pytest.mark.parametrize("directions", ["RAS", "LPS", "SAR"])
def test_a_part_lies_at_its_place(tmp_path, directions):
    path = stored(tmp_path / "a.nii", directions)
    part = take_region(read(path), Region((1, 0, 1), (3, 2, 3)))
    result, source = nibabel.load(write(tmp_path / "b.nii.gz", part)), nibabel.load(path)
    for voxel in np.ndindex(result.shape):
        place = np.rint(np.linalg.inv(source.affine) @ result.affine @ [*voxel, 1]).astype(int)[:3]
        assert result.dataobj[voxel] == source.dataobj[tuple(place)]


def test_a_given_voxel_size_replaces_the_matrix(tmp_path):
    path = stored(tmp_path / "a.nii", "LPS")
    write(tmp_path / "b.nii", read(path, voxel_size=[3, 3, 3]))
    assert read(tmp_path / "b.nii").spacing == (3, 3, 3)


def test_a_plane_stays_a_plane(tmp_path):
    array = ARRAY[:, :, :1]
    image = nibabel.Nifti1Image(array, np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]]))
    nibabel.save(image, tmp_path / "a.nii")
    assert read(tmp_path / "a.nii").shape == (1, 4, 5)


def test_matrix_without_directions_is_ignored(tmp_path):
    image = nibabel.Nifti1Image(ARRAY, CANONICAL)
    image.header.set_sform(np.zeros((4, 4)), code=1)
    image.header["srow_x"] = np.nan
    with open(tmp_path / "a.nii", "wb") as file:
        image.header.write_to(file)
        file.write(bytes(int(image.header["vox_offset"]) - file.tell() if image.header["vox_offset"] else 352 - file.tell()))
        file.write(ARRAY.tobytes("F"))
    with pytest.warns(MetadataWarning) as caught:
        image = read(tmp_path / "a.nii")
    assert caught[0].message.field == "sform or qform"
    assert image.shape == (6, 5, 4)


def test_labels_in_another_orientation_fit_with_a_warning(tmp_path):
    raw, labels = stored(tmp_path / "raw.nii", "RAS"), stored(tmp_path / "labels.nii", "LPS")
    assert len(pair_images(raw, labels)[0]) == 1
    image = read(raw)
    with collected() as found:
        truth, _, _ = open_truth(Truth(labels), image)
    np.testing.assert_array_equal(truth, image)
    assert [warning.code for warning in found] == ["nifti.orientation"]


def test_labels_without_orientation_are_told(tmp_path):
    raw = stored(tmp_path / "raw.nii", "LPS")
    labels = write(tmp_path / "labels.tif", np.asarray(read(raw)).astype(np.uint16), axes="ZYX", labels=True)
    with collected() as found:
        truth, _, _ = open_truth(Truth(labels), read(raw))
    assert (found[0].code, found[0].file) == ("nifti.orientation", str(labels))
    np.testing.assert_array_equal(read_labels(labels), truth)
