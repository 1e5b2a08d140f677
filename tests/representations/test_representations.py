"""Channels: what each says of known labels, the numbers of the original, and the edges."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage.segmentation import find_boundaries

from morula.core.image import Image
from morula.core.label_image import check_labels
from morula.core.voxel_size import VoxelSize
from morula.labels.boundaries import boundaries
from morula.labels.morphology import dilate, dilate_mask, ellipsoid, erode, radii
from morula.labels.skeleton import skeleton
from morula.representations import REPRESENTATIONS
from morula.representations.contour import Contour
from morula.representations.encode import build_channels, encode
from morula.testing.errors import raises

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "labels" / "channels.npz")
CASES = {
    "ch_2d_F": ("F", {}),
    "ch_2d_B": ("B", {}),
    "ch_2d_P": ("P", {}),
    "ch_2d_P_dil3": ("P", {"dilation": 3}),
    "ch_2d_C_thick": ("C", {}),
    "ch_2d_C_inner": ("C", {"mode": "inner"}),
    "ch_2d_C_outer": ("C", {"mode": "outer"}),
    "ch_2d_Db_norm": ("Db", {}),
    "ch_2d_Db_raw": ("Db", {"norm": False}),
    "ch_2d_Db_discretize": ("Db", {"val_type": "discretize"}),
    "ch_2d_Dc_centroid": ("Dc", {}),
    "ch_2d_Dc_raw": ("Dc", {"norm": False}),
    "ch_3d_F": ("F", {}),
    "ch_3d_P": ("P", {}),
    "ch_3d_C_thick": ("C", {}),
    "ch_3d_Db_raw": ("Db", {"val_type": "raw"}),
}


def blobs(shape, n, seed=0):
    """Touching objects of all shapes, with background between."""
    rng = np.random.default_rng(seed)
    noise = ndi.gaussian_filter(rng.random(shape), 2)
    points = np.zeros(shape, np.uint32)
    points[tuple(rng.integers(0, s, n) for s in shape)] = np.arange(1, n + 1)
    nearest = ndi.distance_transform_edt(points == 0, return_distances=False, return_indices=True)
    return np.where(noise > np.quantile(noise, 0.3), points[tuple(nearest)], 0).astype(np.uint32)


@pytest.mark.parametrize("name", CASES)
def test_equals_the_original(name):
    code, options = CASES[name]
    got = encode(GOLDEN[f"labels_{name[3:5]}"], [code], {code: options})
    np.testing.assert_allclose(got, GOLDEN[name], atol=1e-5)


@pytest.mark.parametrize("name", [name for name in GOLDEN.files if name.startswith("ellipse")])
def test_footprints_equal_the_original(name):
    np.testing.assert_array_equal(ellipsoid([int(r) for r in name.split("_")[1:]]), GOLDEN[name])


@pytest.mark.parametrize("shape", [(40, 50), (12, 20, 22)])
@pytest.mark.parametrize("mode", ["thick", "inner", "outer"])
@pytest.mark.parametrize("connectivity", [1, 2, 3])
def test_boundaries_equal_scikit_image(shape, mode, connectivity):
    labels = blobs(shape, 15)
    expected = find_boundaries(labels.astype(np.int32), min(connectivity, len(shape)), mode=mode)
    np.testing.assert_array_equal(boundaries(labels, mode, connectivity), expected)
    options = {"mode": mode, "connectivity": connectivity}
    np.testing.assert_array_equal(Contour(Contour.options_class(**options)).encode(labels, (1,) * len(shape))[0], expected)


@pytest.mark.parametrize("mode", ["subpixel", "dense"])
def test_other_contours_take_faces_only(mode):
    with raises("contour.connectivity"):
        build_channels({"C": {"mode": mode, "connectivity": 2}})


def test_subpixel_contour_covers_one_voxel_across_a_boundary():
    labels = np.zeros((6, 8), np.uint32)
    labels[:, 4:] = 1
    assert boundaries(labels, "subpixel")[3].tolist() == [0, 0, 0, 0.5, 0.5, 0, 0, 0]
    assert boundaries(np.array([[0, 1, 0]]), "subpixel").tolist() == [[0.5, 1, 0.5]]


def test_dense_contour_is_the_rim_outside_objects():
    labels = blobs((40, 50), 12)
    rim = ndi.binary_dilation(labels > 0) & (labels == 0)
    np.testing.assert_array_equal(boundaries(labels, "dense"), rim)


def test_unknown_contour_mode_is_named():
    with raises("option.choice", key="mode", value="thin"):
        boundaries(np.ones((3, 3), np.uint32), "thin")


@pytest.mark.parametrize("shape", [(40, 50), (10, 20, 22)])
@pytest.mark.parametrize("radius", [(1, 1, 1), (2, 2, 2), (0, 2, 2), (1, 3, 2)])
def test_erosion_is_each_object_by_itself(shape, radius):
    labels = blobs(shape, 12)
    radius = radius[-len(shape) :]
    footprint = ellipsoid(radius)
    want = np.zeros_like(labels)
    for label in np.unique(labels[labels > 0]):
        alone = ndi.binary_erosion(labels == label, footprint, border_value=1)
        want[alone] = label
    np.testing.assert_array_equal(erode(labels, radius), want)
    np.testing.assert_array_equal(dilate_mask(labels > 0, radius), ndi.binary_dilation(labels > 0, footprint))


@pytest.mark.parametrize("shape", [(40, 50), (10, 20, 22)])
def test_dilation_keeps_objects_and_gives_voxels_to_the_nearest(shape):
    labels = blobs(shape, 10)
    radius = (3,) * len(shape)
    grown = dilate(labels, radius)
    np.testing.assert_array_equal(grown[labels > 0], labels[labels > 0])
    distances = {n: ndi.distance_transform_edt(labels != n) for n in np.unique(labels[labels > 0])}
    table = np.stack(list(distances.values()))
    nearest, tied = np.array(list(distances))[table.argmin(axis=0)], (table <= table.min(axis=0) + 1e-6).sum(axis=0) > 1
    reached = (table.min(axis=0) <= 3) & ~tied
    np.testing.assert_array_equal(grown, np.where(reached | (labels > 0), nearest, 0))


def test_eroded_foreground_parts_touching_objects():
    labels = np.repeat([[1] * 5 + [2] * 5], 7, axis=0)
    for shape in (labels, np.stack([labels] * 7)):
        inside = encode(shape, ["F"], {"F": {"erosion": 1}})[0]
        assert ndi.label(inside)[1] == 2
        both = encode(shape, ["F"], {"F": {"erosion": 1, "dilation": 2}})[0]
        assert ndi.label(both)[1] == 2


def test_dilated_foreground_is_the_dilated_mask():
    labels = blobs((30, 40), 5)
    got = encode(labels, ["F"], {"F": {"dilation": [1, 3]}})[0]
    np.testing.assert_array_equal(got, ndi.binary_dilation(labels > 0, ellipsoid((1, 3))))


def test_background_morphology_acts_on_the_background():
    labels = blobs((30, 40), 5)
    footprint = ellipsoid((2, 2))
    np.testing.assert_array_equal(encode(labels, {"B": {"dilation": 2}})[0], ndi.binary_dilation(labels == 0, footprint))
    np.testing.assert_array_equal(encode(labels, {"B": {"erosion": 2}})[0], ndi.binary_erosion(labels == 0, footprint, border_value=1))


def test_radii_follow_the_voxel_size():
    assert radii(4, (2.0, 1.0, 1.0)) == (2, 4, 4)
    assert radii(1, (5.0, 1.0, 1.0)) == (1, 1, 1)
    with raises("option.axis_count", key="radius", value=[1, 2]):
        radii((1, 2), (1, 1, 1))


def test_distances_are_lengths():
    labels = np.zeros((9, 15), np.uint32)
    labels[1:8, 1:14] = 1
    raw = encode(labels, {"Db": {"norm": False}}, voxel_size=(3.0, 0.5))[0]
    assert raw[4, 7] == pytest.approx(3.5)  # seven voxels of 0.5 along x are nearer than four of 3 along y
    assert raw[4, 1] == pytest.approx(0.5)
    centre = encode(labels, {"Dc": {"norm": False}}, voxel_size=(3.0, 0.5))[0]
    assert centre[1, 7] == pytest.approx(9.0)
    skeletal = encode(labels, {"Dc": {"type": "skeleton", "norm": False}}, voxel_size=(3.0, 0.5))[0]
    assert 0 < skeletal.max() <= 9.5
    image = Image(labels, "YX", VoxelSize(y=3.0, x=0.5))
    np.testing.assert_array_equal(encode(image, {"Db": {"norm": False}})[0], raw)


@pytest.mark.parametrize("shape", [(30, 36), (12, 20, 20)])
def test_normed_distances_run_from_zero_to_one_in_each_object(shape):
    labels = blobs(shape, 6)
    for code in ("Db", "Dc"):
        values = encode(labels, [code])[0]
        assert (values[labels == 0] == 0).all()
        for label in np.unique(labels[labels > 0]):
            inside = values[labels == label]
            if len(np.unique(inside)) > 1:
                assert (inside.min(), inside.max()) == (0, 1)


def test_distance_options_agree():
    with raises("channel.contradiction"):
        build_channels({"Db": {"norm": False, "val_type": "norm"}})
    assert build_channels({"Db": {"norm": False}})[0].activation == "linear"
    assert build_channels({"Db": {}})[0].activation == "sigmoid"
    assert not build_channels({"Db": {"mask_values": False}})[0].masked
    assert build_channels({"Db": {"act": "linear"}})[0].activation == "linear"
    with raises("channel.activation"):
        build_channels({"Db": {"norm": False, "act": "sigmoid"}})


def horseshoe():
    labels = np.zeros((21, 21), np.uint32)
    labels[2:19, 2:19] = 5
    labels[2:16, 6:15] = 0
    return labels


@pytest.mark.parametrize("kind", ["centroid", "skeleton"])
def test_centres_lie_in_their_object(kind):
    flat = horseshoe()
    for labels in (flat, np.stack([flat] * 5)):
        marks = encode(labels, {"P": {"type": kind, "dilation": 0}})[0]
        assert marks.sum() >= 1
        assert (labels[marks > 0] == 5).all()
        grown = encode(labels, {"P": {"type": kind, "dilation": 4}})[0]
        assert (labels[grown > 0] == 5).all()
        assert grown.sum() > marks.sum()


def test_marks_of_neighbours_stay_in_their_objects():
    labels = np.array([[1, 1, 1, 2, 2, 2]] * 3)
    eroded = encode(labels, {"P": {"dilation": 5, "erosion": 1}})[0]
    assert eroded.sum() < encode(labels, {"P": {"dilation": 5}})[0].sum() == 18


def test_main_skeleton_is_one_path():
    mask = np.zeros((40, 60), bool)
    mask[18:23, 2:58] = True
    mask[18:32, 28:33] = True  # a branch
    mask[2:5, 2:5] = True  # and a piece apart
    full, main = skeleton(mask, (1, 1)), skeleton(mask, (1, 1), "main")
    assert main.sum() < full.sum()
    assert (full | ~main).all()
    neighbours = ndi.convolve(main.astype(int), np.ones((3, 3), int), mode="constant")[main] - 1
    assert ndi.label(main, np.ones((3, 3)))[1] == 1
    assert (neighbours == 1).sum() == 2
    assert encode(mask.astype(int), {"P": {"type": "skeleton", "skeleton_mode": "main", "dilation": 0}}).sum() == main.sum()


OTHER = {"F": {"erosion": 1}, "P": {"type": "skeleton"}, "Db": {"norm": False}, "Dc": {"type": "skeleton"}}
EDGES = {
    "empty": np.zeros((7, 8), np.uint32),
    "one": np.pad(np.ones((4, 4), np.uint32), 2),
    "full": np.full((6, 7), 9, np.uint32),
    "one voxel": np.pad(np.ones((1, 1), np.uint32), 3),
    "ring": np.pad(np.pad(np.zeros((2, 2), np.uint32), 2, constant_values=3), 1),
    "pieces": np.array([[1, 1, 0, 1, 1], [1, 1, 0, 1, 1]], np.uint32),
}


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize(
    "options", [{}, {"F": {"erosion": 1}, "P": {"type": "skeleton"}, "Db": {"norm": False}, "Dc": {"type": "skeleton"}}]
)
def test_edges(name, ndim, options):
    labels = EDGES[name] if ndim == 2 else np.stack([EDGES[name]] * 3)
    channels = dict(zip(["F", "B", "P", "C", "Db", "Dc"], encode(labels, ["F", "B", "P", "C", "Db", "Dc"], options), strict=True))
    assert all(np.isfinite(channel).all() for channel in channels.values())
    if name == "empty":
        assert all(channels[code].max() == 0 for code in ("F", "P", "C", "Db", "Dc"))
        assert channels["B"].min() == 1
    else:
        assert all(channels[code].max() > 0 for code in ("P", "Db"))
        assert options or channels["F"].max() > 0


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int64, np.uint64, np.float32, np.float64])
def test_labels_of_any_type(dtype):
    plain = np.pad(np.ones((5, 5)), 2)
    np.testing.assert_array_equal(encode(plain.astype(dtype), ["F", "C", "Db"]), encode(plain.astype(np.uint32), ["F", "C", "Db"]))


def test_large_ids_stay_apart():
    labels = np.array([[1, 1, 1, 2, 2, 2]] * 4, np.int64)
    large = np.where(labels == 1, 2**31, 2**31 + 1)
    for codes in (["F", "C", "Db"], ["P", "Dc"]):
        np.testing.assert_array_equal(encode(large, codes), encode(labels, codes))


@pytest.mark.parametrize(
    ("labels", "code"),
    [
        (np.array([[0.5, 1]]), "labels.fraction"),
        (np.array([[-1, 1]]), "labels.negative_id"),
        (np.array([[np.nan, 1]]), "labels.not_finite"),
        (np.array([[2**33, 1]]), "labels.large_id"),
        (np.array([["a"]]), "labels.type"),
        (np.zeros((0, 4), int), "labels.empty"),
        (np.zeros((2, 2, 2, 2), int), "labels.dimensions"),
    ],
)
def test_labels_that_are_none(labels, code):
    with raises(code):
        check_labels(labels)


def test_channels_that_are_none():
    labels = np.ones((3, 3), int)
    with raises("name.unknown", value="Dbb"):
        encode(labels, ["Dbb"])
    with raises("option.unknown", value=1, remedy="Did you mean 'erosion'?"):
        encode(labels, ["F"], {"F": {"erosionn": 1}})
    with raises("option.range"):
        encode(labels, ["F"], {"F": {"erosion": -1}})
    with raises("channels.duplicate", value=["F", "F"]):
        encode(labels, ["F", "F"])
    with raises("channels.empty"):
        encode(labels, [])
    with raises("channels.surplus_options"):
        encode(labels, ["F"], {"C": {}})


@pytest.mark.parametrize("shape", [(20, 24), (8, 20, 24)])
def test_labels_are_not_modified(shape):
    labels = blobs(shape, 5)
    before = labels.copy()
    encode(labels, [code for code in REPRESENTATIONS.names if code != "Z" or labels.ndim == 3], {"F": {"erosion": 1, "dilation": 1}})
    assert (labels == before).all()


@pytest.mark.parametrize("shape", [(9, 12), (5, 9, 12)])
def test_an_object_that_fills_the_image_is_not_eroded(shape):
    full = np.full(shape, 7, np.uint32)
    np.testing.assert_array_equal(erode(full, (2,) * len(shape)), full)
    assert encode(full, {"F": {"erosion": 2}}).min() == 1
    assert encode(full, {"B": {"dilation": 2}}).max() == 0
    assert encode(0 * full, {"B": {"erosion": 2}}).min() == 1


@pytest.mark.parametrize(("shape", "spacing"), [((70, 90), (1.0, 1.0)), ((12, 40, 50), (2.0, 0.5, 0.7))])
def test_both_ways_to_distances_agree(shape, spacing, monkeypatch):
    from morula.labels import distance as module

    labels = blobs(shape, 12).astype(np.uint32)
    labels[tuple(slice(0, n // 3) for n in shape)] = 2**31
    found = {}
    for deep in (np.inf, -1.0):  # always by searching, always by envelopes
        monkeypatch.setattr(module, "_DEEP", deep)
        found[deep] = [module.distance(labels, spacing), module.distance(labels, spacing, outside=3.0)]
    for one, two in zip(*found.values(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)
    near = module.distance(labels, spacing, limit=1.5)
    exact = found[np.inf][0]
    np.testing.assert_allclose(near[exact <= 1.5], exact[exact <= 1.5], rtol=1e-5)
    assert (near[exact > 1.5] >= 1.5 - 1e-6).all()


@pytest.mark.parametrize("shape", [(24, 30), (8, 14, 12)])
def test_channels_together_are_those_alone(shape):
    labels = blobs(shape, 6)
    codes = ["R", "F", "A", "Db"]
    alone = np.concatenate([encode(labels, code) for code in codes])
    together = encode(labels, codes)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together, alone)
