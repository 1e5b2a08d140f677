"""Outlines hold the same objects as label images: ROIs of ImageJ, GeoJSON and COCO."""

import itertools
import json
import uuid
import zipfile

import numpy as np
import pytest
import roifile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from morula.io.formats.coco import unpacked
from morula.io.metadata import collected
from morula.io.read import read_labels
from morula.io.write import write
from morula.kernels.outlines import fill, trace
from morula.testing.errors import raises

SUFFIXES = (".zip", ".geojson", ".json")
PLANES = npst.arrays(
    np.uint32, npst.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([0, 1, 2, 70_000, 2**32 - 1])
)


def hard_plane() -> np.ndarray:
    """A hole, an object in a hole, pieces that touch at corners, objects at the border, large ids."""
    labels = np.kron(np.arange(80).reshape(8, 10) % 7, np.ones((4, 4), int)).astype(np.uint32)
    labels[labels > 0] += 70_000
    labels[5:20, 5:20], labels[8:14, 8:14], labels[10, 10] = 9, 0, 9
    labels[8, 7], labels[0, 0], labels[1, 1] = 0, 3, 3
    return labels


@given(PLANES)
def test_filled_outlines_are_the_labels(labels):
    corners, starts, of = trace(labels)
    plane = np.zeros_like(labels)
    assert fill(plane, corners.astype(np.float64), starts, of[:, 0].astype(np.uint32)) == 0
    np.testing.assert_array_equal(plane, labels)


@given(PLANES)
def test_rings_are_simple_polygons(labels):
    corners, starts, of = trace(labels)
    for first, end in itertools.pairwise(starts):
        ring = corners[first:end]
        assert len({tuple(corner) for corner in ring.tolist()}) == len(ring)  # a ring meets itself nowhere
        steps = np.diff(np.vstack([ring, ring[:1]]), axis=0)
        assert (np.count_nonzero(steps, axis=1) == 1).all()  # along edges of pixels
    # one outer ring per piece connected by edges, which comes first: it turns clockwise on the screen
    areas = [_area(corners[a:b]) for a, b in itertools.pairwise(starts)]
    outer = [i for i in range(len(of)) if i == 0 or (of[i] != of[i - 1]).any()]
    assert all((area > 0) == (i in outer) for i, area in enumerate(areas))
    assert len(outer) == sum(ndimage.label(labels == label)[1] for label in np.unique(labels[labels > 0]))


def _area(ring):
    y, x = ring.T.astype(float)
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("stated", [True, False])
def test_labels_come_back_pixel_by_pixel(tmp_path, suffix, stated):
    labels = hard_plane()
    path = write(tmp_path / f"a{suffix}", labels, labels=True)
    np.testing.assert_array_equal(np.asarray(read_labels(path, shape=labels.shape if stated else None)), labels)


@pytest.mark.parametrize("suffix", [".zip", ".geojson"])
def test_volumes_have_outlines_per_plane(tmp_path, suffix):
    labels = np.stack([hard_plane(), np.roll(hard_plane(), 3, 1), 0 * hard_plane(), hard_plane()])
    path = write(tmp_path / f"a{suffix}", labels, labels=True)
    np.testing.assert_array_equal(np.asarray(read_labels(path)), labels)


def test_coco_holds_no_volumes(tmp_path):
    with raises("coco.volume"):
        write(tmp_path / "a.json", np.ones((2, 4, 4), np.uint8), labels=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_many_objects_and_the_same_bytes(tmp_path, suffix):
    labels = np.kron(np.arange(3600).reshape(60, 60) + 90_000, np.ones((3, 3), int)).astype(np.uint32)
    paths = [write(tmp_path / name / f"a{suffix}", labels, labels=True) for name in "ab" if not (tmp_path / name).mkdir()]
    np.testing.assert_array_equal(np.asarray(read_labels(paths[0])), labels)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_images_without_objects(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", np.zeros((5, 6), np.uint8), labels=True)
    assert np.asarray(read_labels(path, shape=(5, 6))).tolist() == np.zeros((5, 6)).tolist()


def test_intensities_have_no_outlines(tmp_path):
    with raises("outlines.not_labels"):
        write(tmp_path / "a.geojson", np.zeros((5, 6), np.uint8))


def test_rois_as_imagej_reads_them(tmp_path):
    labels = np.zeros((3, 20, 30), np.uint16)
    labels[1, 2:6, 3:9], labels[2, 10:15, 10:15], labels[2, 12, 12] = 4, 5, 0
    square, ring = roifile.roiread(write(tmp_path / "a.zip", labels, labels=True))
    assert (square.name, square.position, square.roitype) == ("4-z0002", 2, roifile.ROI_TYPE.TRACED)
    assert (square.left, square.top, square.right, square.bottom) == (3, 2, 9, 6)
    assert square.coordinates().tolist() == [[3, 2], [9, 2], [9, 6], [3, 6]]
    assert (ring.name, ring.position, ring.composite, len(ring.coordinates(multi=True))) == ("5-z0003", 3, True, 2)


def test_rois_of_every_kind(tmp_path):
    kinds = roifile.ROI_TYPE
    rois = [roifile.ImagejRoi.frompoints([[2, 2], [8, 2], [8, 5], [2, 5]], name="freehand")]
    rois += [roifile.ImagejRoi(name=kind.name, roitype=kind, left=10, top=10, right=17, bottom=15) for kind in (kinds.RECT, kinds.OVAL)]
    rois += [roifile.ImagejRoi.frompoints([[1.0, 20], [1, 25], [5, 25]], name="line")]
    rois[-1].roitype = kinds.POLYLINE
    rois[2].left, rois[2].right = 20, 27
    roifile.roiwrite(tmp_path / "a.zip", rois)
    with collected() as warnings:
        labels = np.asarray(read_labels(tmp_path / "a.zip", shape=(30, 30)))
    assert [warning.code for warning in warnings] == ["rois.no_area"]
    assert (labels[2:5, 2:8] == 1).all()
    assert (labels[10:15, 10:17] == 2).all()
    y, x = np.mgrid[:30, :30] + 0.5
    np.testing.assert_array_equal(labels == 3, ((y - 12.5) / 2.5) ** 2 + ((x - 23.5) / 3.5) ** 2 < 1)
    assert np.bincount(labels.ravel())[1:].tolist() == [18, 35, int((labels == 3).sum())]


def test_geojson_as_qupath_reads_it(tmp_path):
    labels = np.zeros((2, 20, 20), np.uint16)
    labels[1, 2:6, 3:9], labels[1, 3, 4], labels[1, 15:, 15:] = 4, 0, 4
    content = json.loads(write(tmp_path / "a.geojson", labels, labels=True).read_text())
    assert content["type"] == "FeatureCollection"
    feature = content["features"][0]
    assert uuid.UUID(feature["id"]).version == 5
    assert (feature["type"], feature["properties"]) == ("Feature", {"objectType": "detection", "name": "4-z0002"})
    assert feature["geometry"]["type"] == "MultiPolygon"
    assert feature["geometry"]["plane"] == {"c": -1, "z": 1, "t": 0}
    (outer, hole), (square,) = feature["geometry"]["coordinates"]
    assert outer == [[3, 2], [9, 2], [9, 6], [3, 6], [3, 2]]
    assert hole[0] == hole[-1]
    assert len(square) == 5


def test_geojson_of_others(tmp_path):
    polygon = {"type": "Polygon", "coordinates": [[[1.5, 1.5], [4.5, 1.5], [4.5, 6.5], [1.5, 6.5], [1.5, 1.5]]]}
    names = {"properties": {"name": "Tumor", "classification": {"name": "Tumor"}}}
    features = [{"type": "Feature", "geometry": geometry, **names} for geometry in (polygon, {"type": "Point", "coordinates": [1, 1]})]
    for number, content in enumerate((features, {"type": "FeatureCollection", "features": features}, features[0], polygon)):
        path = tmp_path / f"{number}.geojson"
        path.write_text(json.dumps(content))
        with collected():
            labels = np.asarray(read_labels(path, shape=(9, 9)))
        # centres of pixels decide: those on the upper and left edge are inside
        assert np.argwhere(labels).tolist() == [[y, x] for y in range(1, 6) for x in range(1, 4)]


def test_the_size_is_said_to_be_unknown(tmp_path):
    roifile.roiwrite(tmp_path / "a.zip", [roifile.ImagejRoi.frompoints([[2, 2], [8, 2], [8, 5]])])
    with collected() as warnings:
        assert read_labels(tmp_path / "a.zip").shape == (5, 8)
        read_labels(tmp_path / "a.zip", shape=(3, 9))
    assert [warning.code for warning in warnings] == ["outlines.no_size", "outlines.outside"]


def test_outlines_without_planes_for_a_volume(tmp_path):
    roifile.roiwrite(tmp_path / "a.zip", [roifile.ImagejRoi.frompoints([[2, 2], [8, 2], [8, 5]])])
    with raises("outlines.no_planes"):
        read_labels(tmp_path / "a.zip", shape=(3, 9, 9))


def test_overlaps_are_said(tmp_path):
    square = [[0, 0], [4, 0], [4, 4], [0, 4]]
    roifile.roiwrite(tmp_path / "a.zip", [roifile.ImagejRoi.frompoints(np.add(square, i), name=f"r{i}") for i in (0, 2)])
    with collected() as warnings:
        labels = np.asarray(read_labels(tmp_path / "a.zip", shape=(6, 6)))
    assert [warning.code for warning in warnings] == ["outlines.overlap"]
    assert np.bincount(labels.ravel()).tolist() == [8, 12, 16]


def coco(segmentations, **more):
    image = {"id": 5, "file_name": "x.png", "height": 4, "width": 5}
    annotations = [{"id": 50 + i, "image_id": 5, "category_id": 1, "segmentation": one} for i, one in enumerate(segmentations)]
    return {"images": [image], "annotations": annotations, **more}


def test_coco_of_others(tmp_path):
    runs = {"size": [4, 5], "counts": [5, 2, 13]}  # column 1, rows 1 and 2
    packed = {"size": [4, 5], "counts": "<44"}  # 12, 4, 4
    (tmp_path / "a.json").write_text(json.dumps(coco([runs, packed, [[0, 0, 1, 0, 1, 2, 0, 2]]])))
    expected = np.zeros((4, 5), int)
    expected[1:3, 1], expected[:, 3], expected[:2, 0] = 1, 2, 3
    assert np.asarray(read_labels(tmp_path / "a.json")).tolist() == expected.tolist()


def test_packed_runs():
    assert unpacked("1233") == [1, 2, 3, 5]  # from the fourth on relative to the one two before
    assert unpacked("193K") == [1, 9, 3, 4]
    assert unpacked("P2") == [64]  # more than 5 bits


def test_coco_of_several_images(tmp_path):
    content = coco([{"size": [4, 5], "counts": [0, 4, 16]}])
    content["images"].append({"id": 6, "file_name": "sub/y.png", "height": 2, "width": 2})
    (tmp_path / "a.json").write_text(json.dumps(content))
    with raises("dataset.ambiguous"):
        read_labels(tmp_path / "a.json")
    assert np.asarray(read_labels(f"{tmp_path / 'a.json'}:/sub/y.png")).tolist() == [[0, 0], [0, 0]]
    assert int(np.asarray(read_labels(tmp_path / "a.json", dataset="x.png")).sum()) == 4


def test_archives_without_rois(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "none")
    with raises("file.unreadable"):
        read_labels(tmp_path / "a.zip")
