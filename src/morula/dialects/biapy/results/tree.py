"""The results tree of BiaPy's documents, made from the events of a native run.

One reader: it sees each event when it happens, and the file `events.jsonl` of an earlier part of the run when it is resumed. Results of
the run get a second name (a hard link); tables, charts and the checkpoint, which BiaPy writes in another form, are converted::

    NAME/config_files/   NAME/checkpoints/NAME_ID-checkpoint-best.pth   NAME/logs/
    NAME/results/NAME_ID/{aug, charts, per_image, per_image_instances, ...}    in the run folder
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from morula.core.atomic import atomic
from morula.core.errors import DataError, MorulaError
from morula.core.events import Artefact, Event, FileWritten, Finished, Warned, from_record
from morula.core.location import split_location
from morula.core.manifest import RESULTS, recording
from morula.core.outputs import Destination, check_apart
from morula.dialects.biapy.convert import medians_of
from morula.dialects.biapy.folders import Experiment
from morula.dialects.biapy.instances import channels_of
from morula.dialects.biapy.results.charts import draw_chart, epoch_lines, figures_of
from morula.dialects.biapy.results.chunks import by_chunks, container_of, write_container, writes_tiff
from morula.dialects.biapy.results.links import is_free, kept, link
from morula.dialects.biapy.results.samples import augmentation_names, channel_figures, write_augmented, write_channels, write_degraded
from morula.dialects.biapy.results.stack import conditions_in_3d, stack_objects
from morula.dialects.biapy.results.tables import object_columns, write_metrics, write_objects
from morula.dialects.biapy.results.weights import write_checkpoint
from morula.dialects.biapy.settings import Settings
from morula.dialects.biapy.table import FILTER, OBJECTS
from morula.io.read import read, read_labels
from morula.io.write import write
from morula.jobs.load import load_job
from morula.jobs.run_folder import RunFolder
from morula.measurement.csv_table import read_table, write_table
from morula.models.load import load
from morula.training.processes import first_process
from morula.workflows.evaluate import truth_of
from morula.workflows.prepare import prepare
from morula.workflows.sources import open_truth, paired

if TYPE_CHECKING:
    from morula.jobs.job import Images, Job

_PARTS = ("TRAIN", "VAL", "TEST")
_INTERMEDIATES = {"seeds": "seed_map", "surface": "semantic", "growth": "foreground"}


class ResultsTree:
    """Writes BiaPy's folders of one run.

    Args:
        experiment: folders, name and number of the run.
        settings: the job file.
    """

    def __init__(self, experiment: Experiment, settings: Settings) -> None:
        self.experiment = experiment
        self.settings = settings
        self.run = RunFolder(experiment.run_folder)
        self.time = datetime.now(UTC).astimezone().strftime("%Y_%m_%d_%H_%M_%S")
        self.images = "full_image" if settings.flag("TEST.FULL_IMG") else "per_image"

    def follow(self, events: Iterator[Event], *, resumed: bool = False) -> Iterator[Event]:
        """Pass the events of a run on, and write what they stand for. It happens while the run holds its folder, so its manifest has it."""
        caught_up = not resumed
        self._check_source_folders()
        for event in events:
            yield event
            if not first_process():
                continue
            if not caught_up:
                caught_up = True
                yield from self._catch_up()
            yield from self.take(event)

    def _check_source_folders(self) -> None:
        """Reject folders for degraded images that are among the images, before anything is trained.

        Raises:
            FileWriteError: ``output.inside_input`` and the like.
        """
        images = [self.settings.text(key) for part in _PARTS if (key := f"DATA.{part}.PATH") in self.settings]
        for part in _PARTS:
            if (folder := self._source_folder(part)) is not None:
                check_apart([Destination(folder / "image.tif", str(folder), f"DATA.{part}.SSL_SOURCE_DIR")], images)

    def _catch_up(self) -> Iterator[Event]:
        """What an earlier part of the run has written."""
        for text in self.run.events_file.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, DataError):
                event = from_record(json.loads(text), self.run.path)
                if not isinstance(event, FileWritten) or event.path.exists():
                    yield from self.take(event)

    def take(self, event: Event) -> Iterator[Event]:
        """Write what belongs to an event."""
        if isinstance(event, FileWritten):
            handlers: dict[Artefact, Callable[[FileWritten], Iterator[Event]]] = {
                Artefact.CHANNELS: self._channels,
                Artefact.RAW_LABELS: self._raw_labels,
                Artefact.LABELS: self._labels,
                Artefact.TABLE: self._table,
                Artefact.FULL_TABLE: self._full_table,
                Artefact.INTERMEDIATE: self._intermediate,
                Artefact.IMAGE: self._image,
                Artefact.SCORES: self._scores,
            }
            if event.kind in handlers:
                yield from handlers[event.kind](event)
        elif isinstance(event, Finished) and event.task == ("train",):
            yield from self._trained()
        elif isinstance(event, Finished) and not event.task:
            yield from self._finished()

    @cached_property
    def job(self) -> Job:
        """The resolved native job."""
        return load_job(self.run.job_file)

    @property
    def _has_post_processing(self) -> bool:
        return bool(self.job.objects.refine or self.job.objects.filter)

    def _place(self, folder: str, name: str) -> Path:
        return self.run.path / folder / name

    # ---- images

    def _channels(self, event: FileWritten) -> Iterator[Event]:
        if writes_tiff(self.settings):
            yield from link(event.path, self._place(self.images, event.path.name))
        yield from self._container(event.path, self.images, labels=False)

    def _container(self, source: Path, folder: str, *, labels: bool) -> Iterator[Event]:
        """The same image as Zarr or HDF5, where volumes are predicted by chunks."""
        if not by_chunks(self.settings):
            return
        target = self._place(folder, container_of(self.settings, source))
        if is_free(target):
            write_container(source, target, self.settings.text("DATA.TEST.INPUT_IMG_AXES_ORDER"), labels=labels)
            kind = Artefact.LABELS if labels else Artefact.CHANNELS
            yield FileWritten(target, kind, "in the order of axes that the job states", run=str(self.run.path))
        else:
            yield kept(target)

    def _raw_labels(self, event: FileWritten) -> Iterator[Event]:
        yield from link(event.path, self._place(f"{self.images}_instances", event.path.name))

    def _labels(self, event: FileWritten) -> Iterator[Event]:
        semantic = self.settings.text("PROBLEM.TYPE") == "SEMANTIC_SEG"
        kind = "binarized" if semantic else "post_processing" if self._has_post_processing else "instances"
        yield from link(event.path, self._place(f"{self.images}_{kind}", event.path.name))
        if self.settings.text("TEST.BY_CHUNKS.WORKFLOW_PROCESS.TYPE") == "chunk_by_chunk":
            yield from self._container(event.path, f"{self.images}_{kind}", labels=True)

    def _table(self, event: FileWritten) -> Iterator[Event]:
        if self.job.objects.filter:
            yield from self._objects(event.path, "post_processing", f"{event.path.stem}_filtered_stats.csv")
        elif self.settings.flag(f"{OBJECTS}.ENABLE"):
            yield from self._objects(event.path, "instances", f"{event.path.stem}_full_stats.csv")

    def _full_table(self, event: FileWritten) -> Iterator[Event]:
        if self.settings.flag(f"{FILTER}.ENABLE") or self.job.objects.filter:
            yield from self._objects(event.path, "instances", f"{event.path.stem.removesuffix('_all')}_full_stats.csv")

    def _objects(self, source: Path, folder: str, name: str) -> Iterator[Event]:
        target = self._place(f"{self.images}_{folder}", name)
        if is_free(target):
            write_objects(source, target, self.job.objects.measure.extra)
        else:
            yield kept(target)

    def _intermediate(self, event: FileWritten) -> Iterator[Event]:
        name = _INTERMEDIATES.get(event.note)
        if name is not None:
            image = event.path.stem.removesuffix(f"_{event.note}")
            yield from link(event.path, self._place(f"watershed/{image}", f"{name}.tif"))
            if self._one_image:
                yield from link(event.path, self._place("watershed", f"{name}.tif"))

    @cached_property
    def _one_image(self) -> bool:
        """Whether there is one test image: its files need no folder of their own."""
        test = self.job.images.test
        return test is not None and len(paired(test, self.job.images, "images.test", self.job.method.enlarged_by)[0]) == 1

    def _image(self, event: FileWritten) -> Iterator[Event]:
        image = event.path.stem.removesuffix(f"_{event.note}")
        # MAE_checks is the native folder, too; 3.7 has the same images in per_image
        names = {**dict.fromkeys(("predicted", "restored", "denoised", "reconstruction"), image), "original": "", "worse": ""}
        name = names.get(event.note, event.path.stem)
        if name:
            yield from link(event.path, self._place(self.images, f"{name}{event.path.suffix}"))
        elif event.note == "worse" and (folder := self._source_folder("TEST")) is not None:
            with recording(folder, RESULTS):
                yield from link(event.path, folder / f"{image}{event.path.suffix}")

    def _source_folder(self, part: str) -> Path | None:
        """The folder for the degraded images of a part, where the job names one."""
        key = f"DATA.{part}.SSL_SOURCE_DIR"
        return Path(self.settings.text(key)).expanduser().absolute() if key in self.settings else None

    # ---- scores

    def _scores(self, event: FileWritten) -> Iterator[Event]:
        images = self.run.read_images() if self.run.images_file.is_file() else []
        scored = self.settings.flag("DATA.TEST.LOAD_GT")
        matching = self.settings.flag("TEST.MATCHING_STATS")
        target = self.run.path / "test_results_metrics.csv"
        if scored and is_free(target):
            channels = {str(row["name"]): figures for row in images if (figures := self._channel_figures(row))}
            files = {str(row["name"]): split_location(str(row["raw"]))[0].name for row in images}
            write_metrics(target, event.path, files, channels, matching=matching)
            yield FileWritten(target, Artefact.SCORES, "scores with the columns of BiaPy", run=event.run)
        elif scored:
            yield kept(target)
        if matching and self.run.associations.is_dir():
            for file in sorted(self.run.associations.iterdir()):
                for folder in ("point_associations", "instance_associations"):
                    yield from link(file, self._place(folder, self._association_name(file.name)))

    def _association_name(self, name: str) -> str:
        """Without an ending of the image's name: before post-processing; natively it is the other way round."""
        image, _, rest = name.rpartition("_th_")
        if image.endswith("_before"):
            return f"{image.removesuffix('_before')}_th_{rest}"
        return f"{image}{'_post-proc' if self._has_post_processing else ''}_th_{rest}"

    def _channel_figures(self, row: dict[str, str | None]) -> dict[str, float]:
        """Figures of the predicted channels of an image with labels, where both are stored."""
        predicted = self.run.predictions / f"{row['name']}.tif"
        if row.get("truth") is None or not predicted.is_file() or self.job.method.kind != "channels":
            return {}
        labels, _, _ = open_truth(truth_of(row), read_labels(str(row["prediction"])), self._test_images)
        return dict(channel_figures(self._method, np.asarray(read(predicted).canonical()), np.asarray(labels)))

    @property
    def _test_images(self) -> Images:
        """How test images are read."""
        return self.job.images.of(self.job.images.test)

    @cached_property
    def _method(self) -> Any:
        return load(self.run.path).method

    # ---- training

    def _trained(self) -> Iterator[Event]:
        model = load(self.run.path)
        target = self.experiment.written_checkpoint
        if is_free(target):
            yield from write_checkpoint(target, model, self.settings)
        else:
            yield kept(target)
        if self.settings.text("DATA.NORMALIZATION.TYPE") == "custom" and model.normalisation is not None:
            values = {"mean": model.normalisation.offset, "std": model.normalisation.scale}
            for name, value in values.items():
                self._array(target.parent / f"normalization_{name}_value.npy", np.asarray(value))
        yield from self._curves()
        self._samples()

    def _array(self, target: Path, values: np.ndarray) -> None:
        if is_free(target):
            with atomic(target) as part, part.open("wb") as stream:
                np.save(stream, values)

    def _curves(self) -> Iterator[Event]:
        table = self.run.logs / "training.csv"
        if not table.is_file():
            return
        curves = read_table(table)
        name, logs = self.experiment.identifier, self.experiment.folder / "logs"
        for target in (self._place("train_logs", f"{name}_log.txt"), logs / f"{name}_log_{self.time}_training_log.json"):
            if is_free(target):
                with atomic(target) as part:
                    part.write_text(epoch_lines(curves), encoding="utf-8")
        if len(curves["epoch"]) >= self.settings.whole("LOG.CHART_CREATION_FREQ"):
            for figure in figures_of(curves):
                chart = self._place("charts", f"{name}_{figure}.png")
                if is_free(chart):
                    draw_chart(chart, figure, curves)
        for file in sorted(self.run.logs.glob("events.out.tfevents.*")):
            yield from link(file, self._place("tensorboard", file.name))

    def _samples(self) -> None:
        """Augmented patches, and the channels of the first training labels."""
        wanted = self.settings.whole("AUGMENTOR.AUG_NUM_SAMPLES") if self.settings.flag("AUGMENTOR.AUG_SAMPLES") else 0
        instances = self.settings.text("PROBLEM.TYPE") == "INSTANCE_SEG"
        degraded = any(f"DATA.{part}.SSL_SOURCE_DIR" in self.settings for part in ("TRAIN", "VAL"))
        if not (wanted or instances or degraded):
            return
        prepared = prepare(self.job)
        for part, data in (("TRAIN", prepared.train), ("VAL", prepared.validation)) if self.job.method.kind == "crappify" else ():
            if data is not None and (folder := self._source_folder(part)) is not None:
                with recording(folder, RESULTS):
                    write_degraded(folder, load(self.run.path), [source.image for source in data.sources])
        if wanted:
            write_augmented(self._place("aug", ""), prepared.train, number=wanted, names=augmentation_names(self.settings))
        source = prepared.train.sources[0]
        if instances and source.labels is not None:
            self._instance_channels("train", np.asarray(source.labels.canonical())[0], source.image.voxel_size)

    def _instance_channels(self, part: str, labels: np.ndarray, voxel_size: Any) -> None:
        codes = "".join(channels_of(self.settings).written)
        # a part of the size of a patch shows what the options do
        box = tuple(slice(0, edge) for edge in self.job.sampling.patch_shape)
        write_channels(self._place(f"{part}_{codes}_instance_channels", ""), self._method, labels[box], voxel_size)

    # ---- the end

    def _stack(self) -> Iterator[Event]:
        """The objects of all test images as those of one volume."""
        images = self.run.read_images() if self.run.images_file.is_file() else []
        channels = [self.run.predictions / f"{row['name']}.tif" for row in images]
        name = f"{self.experiment.identifier}_stack"
        target = self._place("as_3d_stack", f"{name}.tif")
        if not channels or not all(file.is_file() for file in channels):
            yield Warned("biapy.stack", "no stack is analysed: there are no predicted channels (TEST.SAVE_MODEL_RAW_OUTPUT)")
        elif not is_free(target):
            yield kept(target)
        else:
            filters = [(str(median["axes"]), int(str(median["size"]))) for median in medians_of(self.settings)]
            model = load(self.run.path)
            try:
                labels, table, size = stack_objects(model, channels, [str(row["raw"]) for row in images], filters)
            except MorulaError as error:  # all other results are there: a run does not fail for those that a stack cannot have
                yield Warned("biapy.stack", f"no stack is analysed: {error}")
                return
            if len(conditions_in_3d(model)) < len(model.job.objects.filter):
                told = "conditions on circularity and elongation are not applied to the stack: objects in 3D have neither."
                yield Warned("biapy.stack_filter", told)
            write(target, labels, axes="ZYX", voxel_size=size, labels=True)
            yield FileWritten(target, Artefact.LABELS, "objects of all images as one volume", run=str(self.run.path))
            stats = self._place("as_3d_stack", f"{name}_full_stats.csv")
            if self.settings.flag(f"{OBJECTS}.ENABLE") and is_free(stats):
                write_table(
                    stats, object_columns({str(column): table[column].to_numpy() for column in table}, self.job.objects.measure.extra)
                )

    def _finished(self) -> Iterator[Event]:
        name = self.experiment.identifier
        if self.run.log_file.is_file():
            yield from link(self.run.log_file, self.experiment.folder / "logs" / f"{name}_log_{self.experiment.run_id}_{self.time}.txt")
        if self.settings.flag("TEST.ANALIZE_2D_IMGS_AS_3D_STACK") and self.settings.ndim == 2:
            yield from self._stack()
        if self.settings.text("PROBLEM.TYPE") == "INSTANCE_SEG" and self.run.images_file.is_file():
            rows = [row for row in self.run.read_images() if row.get("truth") is not None]
            if rows:
                labels, _, _ = open_truth(truth_of(rows[0]), read_labels(str(rows[0]["prediction"])), self._test_images)
                self._instance_channels("test", np.asarray(labels), labels.voxel_size)
