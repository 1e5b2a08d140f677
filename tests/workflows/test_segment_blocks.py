"""Images larger than the memory: the result of the whole, block by block, with restarts."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from tests.workflows.encoded_images import MEMORY, encoded_image, model_of

from morula.core.events import Logged, Progress, Warned
from morula.core.image import Image
from morula.core.region import Region
from morula.core.voxel_size import VoxelSize
from morula.inference.median import Options as MedianOptions
from morula.inference.median import median
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.methods.semantic import Semantic
from morula.methods.semantic_options import Options as SemanticOptions
from morula.models.model import Model
from morula.testing.errors import raises
from morula.workflows.batch import Batch
from morula.workflows.block_store import BlockStore, MedianFiltered, MergedLabels
from morula.workflows.hardware import Hardware
from morula.workflows.predict import segment_one, sources_of
from morula.workflows.reading import Reading
from morula.workflows.segment import segment
from morula.workflows.segment_blocks import _fitting_plan, sample_boxes


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoded_image(tmp_path_factory.mktemp("image") / "cells.ome.zarr", (560, 600), 900)


def test_blocks_give_the_labels_and_tables_of_the_whole(run2d: Path, image: Path, tmp_path: Path) -> None:
    settings = {"refine": ["fill_holes", {"remove_small": {"size": 5}}, {"dilation": {"radius": 1}}], "filter": [["npixels > 400"]]}
    model = model_of(run2d, **settings)
    list(segment(image, model=model, output=tmp_path / "whole.ome.zarr"))
    events = list(segment(image, model=model, output=tmp_path / "blocks.ome.zarr", memory=MEMORY))
    assert [event.done for event in events if isinstance(event, Progress) and event.task[-1] == "blocks"][-1] > 1
    whole, blocks = (np.asarray(read_labels(tmp_path / f"{name}.ome.zarr")) for name in ("whole", "blocks"))
    assert whole.max() > 100
    assert np.array_equal(blocks, whole)
    for name in ("whole_all", "whole"):
        one, other = (pd.read_csv(tmp_path / f"{each}.csv") for each in (name, name.replace("whole", "blocks")))
        assert list(one) == list(other)
        values = [name for name in one if name not in ("comment", "conditions")]
        np.testing.assert_allclose(one[values], other[values], rtol=1e-5, atol=1e-6)
    assert set(pd.read_csv(tmp_path / "blocks.csv")["label"]) == set(np.unique(blocks[blocks > 0]))
    assert sorted(path.name for path in tmp_path.iterdir() if "unfinished" in path.name) == []


def test_labels_before_refinement_are_not_written_in_blocks(run2d: Path, image: Path, tmp_path: Path) -> None:
    (source,) = sources_of(image)
    events = list(segment_one(model_of(run2d, refine=["fill_holes"]), source, tmp_path / "cells.tif", Hardware("cpu", MEMORY)))
    assert any(isinstance(event, Warned) and event.code == "blocks.no_raw_labels" for event in events)
    assert not (tmp_path / "before").exists()


def semantic_model(run: Path) -> Model:
    """A model that takes the encoded channels for the probabilities of three classes."""
    model = model_of(run)
    options = SemanticOptions(classes=3)
    prediction = model.job.prediction.model_copy(update={"median": (MedianOptions(axes="yx", size=3), MedianOptions(axes="xy", size=5))})
    job = model.job.model_copy(update={"method": options, "prediction": prediction})
    return replace(model, job=job, method=Semantic(options, job.objects, ndim=2, spacing=model.method.spacing))


def test_classes_and_medians_are_those_of_the_whole(run2d: Path, image: Path, tmp_path: Path) -> None:
    model = semantic_model(run2d)
    list(segment(image, model=model, output=tmp_path / "whole.tif"))
    events = list(segment(image, model=model, output=tmp_path / "blocks.tif", memory="20MB"))
    assert [event.done for event in events if isinstance(event, Progress) and event.task[-1] == "blocks"][-1] > 1
    whole, blocks = (read_labels(tmp_path / f"{name}.tif") for name in ("whole", "blocks"))
    assert len(np.unique(whole)) == 3
    assert whole.dtype == blocks.dtype
    assert np.array_equal(whole, blocks)
    one, other = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("whole", "blocks"))
    pd.testing.assert_frame_equal(one, other, rtol=1e-5)


def test_medians_are_computed_where_they_are_read() -> None:
    values = np.random.default_rng(0).random((2, 9, 20, 21), np.float32)
    filters = [MedianOptions(axes="z", size=3), MedianOptions(axes="xy", size=5)]
    whole = np.stack([median(median(channel, "z", 3), "xy", 5) for channel in values])
    filtered = MedianFiltered(values, filters)
    for box in (np.s_[:], np.s_[1, 2:7, 5:9, 11], np.s_[:, ::2, ::-3, 4:4], np.s_[0:1, 8:, 3:20:5, -2:]):
        assert np.array_equal(filtered[box], whole[box])


def test_format_of_the_labels_does_not_matter(run2d: Path, image: Path, tmp_path: Path) -> None:
    names = ("cells.tif", "cells.ome.zarr", "cells.h5")
    for name in names:
        list(segment(image, model=model_of(run2d), output=tmp_path / name, overwrite=True, memory=MEMORY))
    first, *others = (np.asarray(read_labels(tmp_path / name)) for name in names)
    assert first.max() > 100
    assert all(np.array_equal(first, other) for other in others)


@dataclass(frozen=True, eq=False)
class KilledOnce:
    """A decoder whose process is killed by `kill -9` after some blocks, once; the definition is sent to the workers."""

    method: Any
    folder: Path

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "method"), name)

    def decode(self, block: np.ndarray, parameters: Mapping[str, Any]) -> Any:
        with (self.folder / "blocks").open("a") as file:
            file.write("x")
        if len((self.folder / "blocks").read_text()) >= 5:  # more where two workers begin a block at the same time
            with contextlib.suppress(FileExistsError):
                (self.folder / "killed").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return self.method.decode(block, parameters)


def test_workers_give_the_bytes_of_one_process_also_after_a_kill(run2d: Path, image: Path, tmp_path: Path) -> None:
    model = model_of(run2d)
    list(segment(image, model=model, output=tmp_path / "1.tif", memory=MEMORY))
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    killed = replace(model, method=KilledOnce(model.method, tmp_path))
    command = {"output": tmp_path / "2.tif", "memory": MEMORY}
    with raises("workers.lost"):
        list(segment(image, model=killed, workers=2, **command))  # type: ignore[arg-type]
    finished = list((tmp_path / ".2.tif.unfinished").glob("block_*.npz"))
    assert finished
    assert not (tmp_path / "2.tif").exists()
    events = list(segment(image, model=killed, batch=Batch(resume=True), **command))  # type: ignore[arg-type]
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    first = next(event for event in events if isinstance(event, Progress) and event.task[-1] == "blocks")
    assert first.done >= len(finished)
    assert not any(isinstance(event, Progress) and event.task[-1] == "tiles" and event.done for event in events)
    assert (tmp_path / "1.tif").read_bytes() == (tmp_path / "2.tif").read_bytes()
    one, two = (pd.read_csv(tmp_path / f"{workers}.csv") for workers in (1, 2))
    pd.testing.assert_frame_equal(one, two, rtol=1e-6)


def test_a_region_is_segmented_alone_in_blocks_and_at_once(run2d: Path, image: Path, tmp_path: Path) -> None:
    reading = Reading(region="100:500, 40:560")
    for name, memory in (("whole", None), ("blocks", "32MB")):
        events = list(segment(image, model=model_of(run2d), output=tmp_path / f"{name}.ome.zarr", memory=memory, reading=reading))
        assert any(isinstance(event, Progress) and event.task[-1] == "blocks" for event in events) == (memory is not None)
    whole, blocks = (read_labels(tmp_path / f"{name}.ome.zarr") for name in ("whole", "blocks"))
    assert whole.origin == blocks.origin == (50.0, 20.0)
    assert whole.voxel_size == blocks.voxel_size == VoxelSize(0.5, 0.5)
    assert np.array_equal(whole, blocks)
    tables = [pd.read_csv(tmp_path / f"{name}.csv") for name in ("whole", "blocks")]
    pd.testing.assert_frame_equal(*tables, rtol=1e-6)
    assert tables[0]["centroid_y"].max() < 400  # in voxels of the part, as in its labels
    alone = model_of(run2d).segment(Image(read(image).data[:, 100:500, 40:560], "CYX", VoxelSize(0.5, 0.5)))
    assert np.array_equal(whole, alone)


def test_a_level_of_a_pyramid_is_segmented_in_blocks(run2d: Path, image: Path, tmp_path: Path) -> None:
    finer = np.asarray(read(image)).repeat(2, axis=1).repeat(2, axis=2)
    pyramid = write(tmp_path / "pyramid.ome.zarr", finer, axes="CYX", voxel_size=0.25)
    events = list(segment(pyramid, model=model_of(run2d), output=tmp_path / "blocks.tif", memory=MEMORY, reading=Reading(level=1)))
    assert any(isinstance(event, Progress) and event.task[-1] == "blocks" for event in events)
    list(segment(image, model=model_of(run2d), output=tmp_path / "alone.tif"))
    blocks, alone = (read_labels(tmp_path / f"{name}.tif") for name in ("blocks", "alone"))
    assert blocks.voxel_size == alone.voxel_size == VoxelSize(0.5, 0.5)
    assert np.array_equal(blocks, alone)
    tables = [pd.read_csv(tmp_path / f"{name}.csv") for name in ("blocks", "alone")]
    pd.testing.assert_frame_equal(*tables, rtol=1e-5)


def test_images_on_servers_are_segmented_in_blocks(run2d: Path, image: Path, tmp_path: Path) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(image.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/cells.ome.zarr"
        list(segment(address, model=model_of(run2d), output=tmp_path / "remote.tif", memory=MEMORY))
        server.shutdown()
    list(segment(image, model=model_of(run2d), output=tmp_path / "local.tif", memory=MEMORY))
    assert (tmp_path / "remote.tif").read_bytes() == (tmp_path / "local.tif").read_bytes()
    assert json.loads((tmp_path / "remote.provenance.json").read_text())["inputs"] == {address: ""}


def test_another_region_starts_anew(run2d: Path, image: Path, tmp_path: Path) -> None:
    for region in ("0:400, 0:520", "100:500, 40:560"):
        steps = segment(image, model=model_of(run2d), output=tmp_path / "a.tif", memory="32MB", reading=Reading(region=region))
        first = next(event for event in steps if isinstance(event, Progress) and event.task[-1] == "tiles")
        assert first.done == 0
        next(event for event in steps if isinstance(event, Progress) and event.task[-1] == "blocks")
        steps.close()


@pytest.mark.parametrize("task", ["tiles", "histograms", "blocks", "measure"])
def test_an_interrupted_command_continues_and_gives_the_same_bytes(run2d: Path, image: Path, tmp_path: Path, task: str) -> None:
    list(segment(image, model=model_of(run2d), output=tmp_path / "whole.tif", memory=MEMORY))

    def at(task: str) -> Callable[[object], bool]:
        return lambda event: (
            isinstance(event, Progress) and event.task[-1] == task and event.total is not None and event.done * 2 > event.total
        )

    steps = segment(image, model=model_of(run2d), output=tmp_path / "again.tif", memory=MEMORY)
    next(filter(at(task), steps))
    steps.close()
    assert not (tmp_path / "again.tif").exists()
    store = tmp_path / ".again.tif.unfinished"
    assert store.is_dir()
    finished = {file.name: file.stat().st_mtime_ns for file in store.glob("block_*.npz")}
    events = list(segment(image, model=model_of(run2d), output=tmp_path / "again.tif", memory=MEMORY))
    first = next(event for event in events if isinstance(event, Progress) and event.task[-1] == "tiles") if task == "tiles" else None
    assert first is None or first.done > 0
    assert (len(finished) > 0) == (task in ("blocks", "measure"))
    assert (tmp_path / "again.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not store.exists()


def test_a_diameter_is_refused_by_models_that_do_not_rescale(run2d: Path, image: Path, tmp_path: Path) -> None:
    for memory in (None, MEMORY):
        with raises("model.no_diameter"):
            list(segment(image, model=model_of(run2d), output=tmp_path / "cells.tif", memory=memory, diameter=12))


def test_another_model_starts_anew(run2d: Path, image: Path, tmp_path: Path) -> None:
    steps = segment(image, model=model_of(run2d), output=tmp_path / "cells.tif", memory=MEMORY)
    next(event for event in steps if isinstance(event, Progress) and event.task[-1] == "blocks")
    steps.close()
    other = model_of(run2d, refine=["fill_holes"])
    events = list(segment(image, model=other, output=tmp_path / "cells.tif", memory=MEMORY))
    assert next(event for event in events if isinstance(event, Progress) and event.task[-1] == "tiles").done == 0


def test_too_little_memory_says_the_least_that_works_and_keeps_the_prediction(run2d: Path, image: Path, tmp_path: Path) -> None:
    with raises("blocks.memory") as caught:
        list(segment(image, model=model_of(run2d), output=tmp_path / "cells.tif", memory="2.4MB"))
    least = caught.error.remedy.split("--memory ")[1].split(";")[0]
    assert not (tmp_path / "cells.tif").exists()
    list(segment(image, model=model_of(run2d), output=tmp_path / "cells.tif", memory=least))
    assert (tmp_path / "cells.tif").exists()


@pytest.mark.parametrize("begun", [False, True])
def test_a_folder_of_the_user_is_not_touched(run2d: Path, image: Path, tmp_path: Path, begun: bool) -> None:
    mine = tmp_path / ".cells.tif.unfinished" / "notes.txt"
    if begun:
        BlockStore(tmp_path / "cells.tif", {"of": "another command"})
    else:
        mine.parent.mkdir()
    mine.write_text("mine")
    with raises("blocks.foreign_folder"):
        list(segment(image, model=model_of(run2d), output=tmp_path / "cells.tif", memory=MEMORY))
    assert mine.read_text() == "mine"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    store = BlockStore(tmp_path / "a.tif", {})
    (tmp_path / ".b.tif.unfinished").symlink_to(store.path)
    with raises("blocks.foreign_folder"):
        BlockStore(tmp_path / "b.tif", {"other": 1})
    assert store.path.is_dir()


def test_values_are_on_the_disk_before_what_says_that_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    store = BlockStore(tmp_path / "a.tif", {})
    array = store.array("labels", (64, 64), (16, 16), np.dtype(np.uint32))
    for number in range(3):
        array[16 * number : 16 * number + 16] = number + 1
        store.flush("labels", Region((16 * number, 0), (16 * number + 16, 64)))
        store.note("predicted_0_2", {"layers": number})
        assert {path.stat().st_ino for path in [store.path, *store.path.rglob("*")]} <= set(flushed)
    chunks = [path for path in (store.path / "labels.zarr" / "c").rglob("*") if path.is_file()]
    assert [flushed.count(path.stat().st_ino) for path in chunks] == [1] * 12


def test_models_that_need_whole_images_say_why(run2d: Path, image: Path, tmp_path: Path) -> None:
    model = model_of(run2d, refine=["voronoi"])
    assert "voronoi" in model.block_problem()
    events = list(segment(image, model=model, output=tmp_path / "cells.tif", memory=MEMORY))
    (warning,) = (event for event in events if isinstance(event, Warned) and event.code == "prediction.memory_exceeded")
    assert "voronoi" in warning.message
    assert not any(isinstance(event, Logged) and "blocks of" in event.message for event in events)


def test_blocks_are_planned_for_all_computers(run2d: Path) -> None:
    model, shape, halo = model_of(run2d), (400, 4000), (8, 8)
    plans = [_fitting_plan(model, shape, [halo], 240_000_000, workers=1, computers=computers)[0] for computers in (1, 3, 12)]
    assert len(plans[0]) == 2
    assert len(plans[1]) >= 3
    assert len(plans[2]) >= 12
    assert plans[0].effort < plans[1].effort < plans[2].effort < 1.2


def test_merged_labels_read_like_an_array(tmp_path: Path) -> None:
    store = BlockStore(tmp_path / "cells.tif", {})
    stored = store.array("labels", (7, 10), (4, 5), np.dtype(np.uint32))
    rng = np.random.default_rng(0)
    stored[:] = rng.integers(0, 3, (7, 10))
    tables = [np.concatenate([[0], 10 * block + np.arange(1, 3)]).astype(np.uint16) for block in range(4)]
    labels = MergedLabels(stored, (4, 5), tables)
    whole = np.asarray(labels)
    assert whole.dtype == np.uint16
    for place in np.ndindex(7, 10):
        block = place[0] // 4 * 2 + place[1] // 5
        assert whole[place] == tables[block][stored[place]]
    for box in (np.s_[2:6, 3:8], np.s_[5], np.s_[:, ::3], np.s_[::-1, 4:1:-2], np.s_[4:4], np.s_[-1, -1]):
        assert np.array_equal(labels[box], whole[box])


def test_samples_are_inside_the_image() -> None:
    for shape in ((5, 3000), (40, 96, 500), (10, 10)):
        for box in sample_boxes(shape):
            assert all(0 <= a < b <= n for a, b, n in zip(box.start, box.stop, shape, strict=True))
