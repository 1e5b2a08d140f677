"""Results for other programs: beside the labels of a segmentation, and from label images."""

import json

import numpy as np
import pandas as pd
import pytest
import roifile
from typer.testing import CliRunner

from morula.cli.app import app
from morula.core.palette import colours_of
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.testing.bad_documents import small_model
from morula.testing.errors import raises
from morula.workflows.export import export
from morula.workflows.segment import segment

LABELS = np.kron(np.array([[0, 1, 2], [3, 0, 70_000]]), np.ones((6, 5), int)).astype(np.uint32)
ALL = ("rois", "geojson", "coco", "preview", "parquet")
ENDS = {"rois": "_rois.zip", "geojson": ".geojson", "coco": "_coco.json", "preview": "_preview.tif", "parquet": ".parquet"}


@pytest.fixture
def labels(tmp_path):
    return write(tmp_path / "cells.tif", LABELS, axes="YX", labels=True, voxel_size=0.5)


def test_every_format_holds_the_same_objects(labels, tmp_path):
    image = write(tmp_path / "raw.tif", 10 * (LABELS > 0).astype(np.uint8), axes="YX")
    list(export(labels, ALL, intensity=image))
    for kind in ("rois", "geojson", "coco"):
        np.testing.assert_array_equal(np.asarray(read_labels(tmp_path / f"cells{ENDS[kind]}")), LABELS)
    preview = read(tmp_path / "cells_preview.tif")
    assert (preview.axes, preview.spacing) == ("YXC", (0.5, 0.5))
    np.testing.assert_array_equal(np.asarray(preview), colours_of(LABELS))
    table = pd.read_parquet(tmp_path / "cells.parquet")
    assert table["label"].tolist() == [1, 2, 3, 70_000]
    assert table["area_um2"].tolist() == [7.5] * 4
    assert table["intensity_mean"].tolist() == [10] * 4
    features = json.loads((tmp_path / "cells.geojson").read_text())["features"]
    assert [feature["properties"]["name"] for feature in features] == ["1", "2", "3", "70000"]
    assert features[0]["properties"]["measurements"]["area_um2"] == 7.5
    assert json.loads((tmp_path / "cells_coco.json").read_text())["images"][0]["file_name"] == "cells.tif"


def test_outlines_of_one_program_for_another(tmp_path, labels):
    list(export(labels, ["geojson"]))
    list(export(tmp_path / "cells.geojson", ["rois"], output=tmp_path / "out"))
    assert [roi.name for roi in roifile.roiread(tmp_path / "out" / "cells_rois.zip")] == ["1", "2", "3", "70000"]


def test_volumes(tmp_path):
    path = write(tmp_path / "a.ome.zarr", np.stack([LABELS, LABELS]), axes="ZYX", labels=True, voxel_size=[2, 0.5, 0.5])
    with raises("export.volume", key="to"):
        list(export(path, ["coco"]))
    list(export(path, ["rois,preview"]))
    assert {roi.position for roi in roifile.roiread(tmp_path / "a_rois.zip")} == {1, 2}
    preview = read(tmp_path / "a_preview.tif")
    assert (preview.shape, preview.spacing) == ((2, 12, 15, 3), (2, 0.5, 0.5))


def test_files_of_the_user_stay(labels, tmp_path):
    (tmp_path / "cells.geojson").write_text("mine")
    for overwrite, code in ((False, "output.exists"), (True, "output.not_own")):
        with raises(code):
            list(export(labels, ["rois", "geojson"], overwrite=overwrite))
    assert (tmp_path / "cells.geojson").read_text() == "mine"
    assert not (tmp_path / "cells_rois.zip").exists()
    list(export(labels, ["rois"]))
    with raises("output.exists"):
        list(export(labels, ["rois"]))
    list(export(labels, ["rois"], overwrite=True))
    with raises("output.is_input"):
        list(export(tmp_path / "cells_rois.zip", ["rois"], output=tmp_path / "cells_rois.zip", overwrite=True))


@pytest.mark.parametrize(
    ("to", "output", "code"),
    [
        (["svg"], None, "export.unknown"),
        ([], None, "export.nothing"),
        (["rois", "coco"], "a.zip", "export.one_file"),
        (["rois"], "a.json", "export.suffix"),
    ],
)
def test_misuse(labels, tmp_path, to, output, code):
    with raises(code):
        list(export(labels, to, output=None if output is None else tmp_path / output))
    assert [path.name for path in tmp_path.iterdir()] == ["cells.tif"]


def test_a_grey_image_has_no_outlines(tmp_path):
    grey = np.random.default_rng(0).integers(0, 60_000, (32, 32)).astype(np.uint16)
    with raises("measure.grey_image"):
        list(export(write(tmp_path / "grey.tif", grey, axes="YX"), ["rois"]))


def test_command(labels, tmp_path):
    result = CliRunner().invoke(app, ["export", str(labels), "--to", "rois,geojson", "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == ["cells.geojson", "cells_rois.zip"]


def test_colours_differ():
    colours = colours_of(np.arange(257))
    assert len({tuple(colour) for colour in colours.tolist()}) == 257
    assert colours_of(np.array([5, 5 + 256]))[0].tolist() == colours_of(np.array([5 + 256]))[0].tolist()


def test_segment_also(tmp_path):
    model = small_model()
    image = write(tmp_path / "raw.tif", np.random.default_rng(0).integers(0, 99, (40, 40)).astype(np.uint8), axes="YX")
    list(segment(image, model=model, output=tmp_path / "out" / "cells.tif", also=["rois,geojson", "coco", "preview", "parquet"]))
    labels = np.asarray(read_labels(tmp_path / "out" / "cells.tif"))
    for kind in ("rois", "geojson", "coco"):
        np.testing.assert_array_equal(np.asarray(read_labels(tmp_path / "out" / f"cells{ENDS[kind]}", shape=labels.shape)), labels)
    assert len(pd.read_parquet(tmp_path / "out" / "cells.parquet")) == len(np.unique(labels[labels > 0]))
    assert json.loads((tmp_path / "out" / "cells_coco.json").read_text())["images"][0]["file_name"] == "raw.tif"
    with raises("output.exists"):
        list(segment(image, model=model, output=tmp_path / "out" / "cells.tif", also=["rois"]))
    list(segment(image, model=model, output=tmp_path / "out" / "cells.tif", also=["rois"], overwrite=True))
