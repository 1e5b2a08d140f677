"""Ignored metadata are told where users look: on the screen, in the log, in events.jsonl and in the report, with file, field and value."""

import subprocess
import sys

import numpy as np
import tifffile

from morula.core.events import Warned
from morula.dialects.convert import convert
from morula.io.metadata import collected
from morula.io.pairs import list_images
from morula.io.read import read
from morula.io.write import write
from morula.testing.errors import raises
from morula.workflows.log import read_events
from morula.workflows.measure import measure_file
from morula.workflows.predict import predict
from morula.workflows.segment import segment

SIZE = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeXUnit": "stone", "PhysicalSizeYUnit": "um"}


def invalid(path, **options):
    """The image as an OME-TIFF with an invalid unit."""
    values = np.asarray(read(path))
    path.unlink()
    path = path.with_suffix(".ome.tif")
    tifffile.imwrite(path, values, ome=True, metadata={"axes": "YX", **SIZE, **options})
    return path


def test_warnings_of_a_run(project, finished):
    job = project / "run/job.yaml"
    job.write_text(job.read_text().replace(str(finished), str(project)))
    path = invalid(next((project / "data/test/images").iterdir()))
    told = [event for event in predict(project / "run") if isinstance(event, Warned) and event.code == "metadata.ignored"]
    assert len(told) == 1
    for text in (str(path), "PhysicalSizeXUnit", "'stone'"):
        assert text in told[0].message
    assert told[0].message in [event.message for event in read_events(project / "run") if isinstance(event, Warned)]
    assert told[0].message in (project / "run/logs/log.txt").read_text()
    assert "PhysicalSizeXUnit" in (project / "run/report.html").read_text()


def test_warnings_of_segment_and_info(project):
    path = invalid(next((project / "data/test/images").iterdir()))
    events = list(segment(path, model=project / "run", output=project / "cells.tif"))
    assert "metadata.ignored" in {event.code for event in events if isinstance(event, Warned)}
    done = subprocess.run([sys.executable, "-c", "from morula.cli import main; main()", "info", str(path)], capture_output=True, text=True)
    assert [line for line in done.stderr.splitlines() if line.startswith(f"warning: {path}: ")] == done.stderr.splitlines()
    assert "PhysicalSizeXUnit" in done.stderr


def test_lengths_with_a_decimal_comma_and_units_of_each_axis(tmp_path):
    xml_of = {"PhysicalSizeX": "0,5", "PhysicalSizeY": "500", "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((8, 9), np.uint8), ome=True, metadata={"axes": "YX", **xml_of})
    assert read(tmp_path / "a.ome.tif").spacing == (0.5, 0.5)


def test_a_volume_in_several_files_is_one_image(tmp_path):
    name = "z{}.ome.tif"
    planes = [f'<TiffData FirstZ="{z}" IFD="0"><UUID FileName="{name.format(z)}">urn:uuid:{z}</UUID></TiffData>' for z in range(3)]
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{}"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="9" SizeY="8" SizeZ="3" SizeC="1" SizeT="1">'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{"".join(planes)}</Pixels></Image></OME>'
    )
    for z in range(3):
        tifffile.imwrite(tmp_path / name.format(z), np.full((8, 9), z, np.uint8), description=xml.format(z), metadata=None)
    tifffile.imwrite(tmp_path / "other.ome.tif", np.zeros((8, 9), np.uint8), ome=True)
    assert [path.name for path in list_images(tmp_path)] == ["other.ome.tif", "z0.ome.tif"]
    assert [path.name for path in list_images(tmp_path / "z*.tif")] == ["z0.ome.tif"]
    with collected():
        image = read(tmp_path / "z0.ome.tif")
        assert image.shape == (3, 8, 9)
        for name in ("z0.ome.tif", "z2.ome.tif"):  # each of the files is an input
            with raises("output.is_input"):
                write(tmp_path / name, image, overwrite=True)


def test_folders_of_zarr_and_n5_are_images(tmp_path):
    for name in ("a.zarr", "b.n5", "c.precomputed", "d.ome.zarr"):
        (tmp_path / name).mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.zarr", "b.n5", "c.precomputed", "d.ome.zarr"]


def test_image_whose_label_list_names_nothing_is_not_measured(tmp_path):
    noise = np.random.default_rng(0).integers(0, 60000, (64, 64)).astype(np.uint16)
    path = write(tmp_path / "a.ome.zarr", noise, axes="YX")
    (path / "labels").mkdir()
    (path / "labels/zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"labels": ["gone"]}}}')
    with raises("measure.grey_image"):
        list(measure_file(path, tmp_path / "a.csv"))


def test_names_of_networks_that_are_no_text(tmp_path):
    text = "model: {name: {kind: 5}}\ntrainer: {}\nloaders: {}\nloss: {name: [1]}\n"
    (tmp_path / "job.yaml").write_text(text)
    with raises("job.unknown_name", key="model.name"):
        convert(tmp_path / "job.yaml")
