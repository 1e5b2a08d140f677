"""Compare representations on one data set: the objects that decoding encoded labels gives back, and the scores of trained runs."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from morula.core.atomic import atomic
from morula.core.errors import DataError, OptionError
from morula.core.events import Artefact, Event, FileWritten, Finished, Logged, Progress, Started, Warned, below
from morula.core.image import Image
from morula.core.manifest import is_recorded
from morula.core.os_errors import with_named_os_errors
from morula.core.outputs import Destination, already_exist, check_apart, check_container, check_writable
from morula.core.voxel_size import VoxelSize
from morula.decoders.decode import build_decoder, decode_objects, decoder_name
from morula.io.lazy import time_points
from morula.io.pairs import list_images
from morula.jobs.inputs import inputs_of
from morula.jobs.load import load_job
from morula.jobs.run_folder import RunFolder
from morula.labels.partial_labels import labelled_only
from morula.measurement.csv_table import read_table, write_table
from morula.metrics.matching import match, pool
from morula.representations.encode import build_channels, encode
from morula.workflows.contact_sheet import Shown, contact_sheet
from morula.workflows.prepare import open_images
from morula.workflows.reading import Reading
from morula.workflows.stream import events_of

THRESHOLDS = (0.5, 0.75, 0.9)
CEILING = "labels alone"
"""Value of the column `result` for rows without a network."""


@dataclass(frozen=True)
class Representation:
    """Channels with their options, and the decoder of these channels.

    Examples:
        >>> Representation.of("F+C"), str(Representation.of("A:mutex_watershed"))
        (Representation(channels={'F': {}, 'C': {}}, decoder='watershed'), 'A:mutex_watershed')
    """

    channels: Mapping[str, Mapping[str, object]]
    decoder: str

    @classmethod
    def of(cls, text: str) -> Representation:
        """From codes joined by ``+``, optionally with the name of the decoder after a colon.

        Raises:
            OptionError: when no decoder, or not this one, accepts these channels.
            UnknownNameError: for an unknown channel or decoder.
        """
        codes, _, decoder = text.strip().partition(":")
        return cls.made({code.strip(): {} for code in codes.split("+")}, decoder.strip() or None)

    @classmethod
    def made(cls, channels: Mapping[str, Mapping[str, object]], decoder: str | None = None) -> Representation:
        """From channels with their options. Errors as in `of`."""
        representations = build_channels(channels)
        build_decoder(representations, decoder)
        return cls(channels, decoder_name(representations, decoder))

    def __str__(self) -> str:
        own = decoder_name(build_channels(self.channels)) == self.decoder
        return "+".join(self.channels) + ("" if own else f":{self.decoder}")


@dataclass(frozen=True, eq=False)
class Truths:
    """Opened label images of one data set, and the label of unannotated voxels."""

    labels: tuple[Image, ...]
    unlabelled: int | None = None

    @classmethod
    def of(cls, source: str | Path, reading: Reading = Reading()) -> Truths:  # noqa: B008 - frozen
        """Training labels of a job file or a run folder, or the label images of a folder, file or pattern, read as `reading` says.

        Of a time series, each time point is an image.

        Raises:
            JobError: with all problems of the job and its files.
            MissingFileError: when there are no images.
            OptionError: for a `reading` together with a job, which states how its files are read.
        """
        path = Path(source)
        # a run folder is compared by its own job, which states its images
        job_file = path / "job.yaml" if (path / "job.yaml").is_file() else path
        if job_file.suffix not in (".yaml", ".yml"):
            files = [reading.open_labels(file) for file in list_images(path, labels=True)]
            return cls(tuple(point for labels in files for point in time_points(labels)))
        check_unused(reading)
        train = open_images(load_job(job_file), keys=("train",))[0]["train"]
        return cls(tuple(image.labels for image in train if image.labels is not None), train[0].unlabelled)

    def arrays(self) -> Iterator[tuple[np.ndarray, tuple[float, ...]]]:
        """Labels (Z)YX and spacing of each image; unannotated voxels are background."""
        for image in self.labels:
            array = image.canonical()[0]
            yield labelled_only(array, array, self.unlabelled)[0], VoxelSize.of(image.voxel_size, array.ndim).spacing(array.ndim)


@dataclass(frozen=True)
class Row:
    """One line of the comparison. F1 and panoptic quality are pooled over all objects."""

    representation: str
    decoder: str
    result: str
    images: int
    objects: int
    f1_50: float
    f1_75: float
    f1_90: float
    panoptic_quality_50: float

    @classmethod
    def of(cls, names: tuple[str, str, str], images: int, scores: Mapping[float, tuple[int, float, float]]) -> Row:
        """From representation, decoder and result, and from the number of true objects, F1 and panoptic quality by threshold."""
        none = (0, float("nan"), float("nan"))
        count, _, quality = scores.get(0.5, none)
        return cls(*names, images, count, *(scores.get(threshold, none)[1] for threshold in THRESHOLDS), quality)  # type: ignore[call-arg]


@events_of("morula.compare")
@with_named_os_errors
def compare(
    source: str | Path,
    representations: Sequence[str],
    *,
    output: str | Path,
    runs: Sequence[str | Path] = (),
    reading: Reading = Reading(),  # noqa: B008 - frozen
) -> Iterator[Event]:
    """Compare representations on one data set, in a table and a picture.

    Each representation encodes the labels and decodes its own channels: no network can recover what is lost here. Evaluated runs are in
    the same table with the scores of their test images. Each row is stored in `comparison.csv` at once, and a later call continues after
    the stored rows; `comparison.png` shows one image.

    Args:
        source: a job file or run folder (its training labels are taken), or a folder, file or pattern of label images.
        representations: for example ``["F+C", "F+C+Db", "A:mutex_watershed"]``; after a colon the decoder (by default the first that fits).
        output: folder of the table and the picture.
        runs: run folders to compare with.
        reading: axes, channel, data set and voxel size of label images, where their metadata are missing or wrong.

    Yields:
        events; the last one is `Finished` with F1 at 0.9 by representation.

    Raises:
        DataError: when no image has objects, or a run was not evaluated.
        OptionError: for channels that no decoder accepts, or a `reading` together with a job or run.
        UnknownNameError: for an unknown channel or decoder.

    Examples:
        >>> for event in compare("nuclei.yaml", ["F+C", "F+C+Db"], output="comparison"):  # doctest: +SKIP
        ...     print(event)
    """
    yield from below("compare", _compared(source, representations, Path(output), runs, reading), run=str(output))


def check_unused(reading: Reading) -> None:
    """Check that nothing is stated about files whose job says how they are read.

    Raises:
        OptionError: where something is.
    """
    stated = {field.name: getattr(reading, field.name) for field in fields(reading) if getattr(reading, field.name) != field.default}
    if stated:
        key, value = next(iter(stated.items()))
        rule, remedy = "has no effect: the job says how the files of a run are read", f"State images.{key} in the job, or leave it out."
        raise OptionError("evaluate.reading", rule, key=key, value=value, remedy=remedy)


def _compared(
    source: str | Path, representations: Sequence[str], folder: Path, runs: Sequence[str | Path], reading: Reading
) -> Iterator[Event]:
    began = time.monotonic()
    # by name, so that a set that is given twice is computed once
    chosen = list({str(representation): representation for representation in map(Representation.of, representations)}.values())
    if not chosen and not runs:
        remedy = "Name at least one, for example F+C."
        raise OptionError("compare.no_representation", "no representation is given", key="representations", remedy=remedy)
    for run in runs:
        row_of_run(run)  # before anything is written
    truths = Truths.of(source, reading)
    files = [folder / name for name in ("comparison.csv", "comparison.json", "comparison.png")]
    read = [image for run in runs for image in inputs_of(load_job(RunFolder.existing(run).job_file))]
    check_apart([folder, *files], [source, *(str(labels.source) for labels in truths.labels if labels.source), *runs, *read])
    check_container(Destination(files[0], str(folder)))
    # tables and pictures of an earlier comparison are replaced, those of somebody else are not
    foreign = [file for file in files if os.path.lexists(file) and not is_recorded(folder, file.name)]
    if foreign:
        raise already_exist(foreign)
    check_writable(files[0], str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    with RunFolder(folder).in_use():
        yield from _rows(truths, chosen, runs, folder, began)


def _rows(truths: Truths, chosen: Sequence[Representation], runs: Sequence[str | Path], folder: Path, began: float) -> Iterator[Event]:
    rows = stored(folder, truths)
    yield Started(len(chosen) + len(runs), "representation")
    for done, candidate in enumerate([*chosen, *runs], start=1):
        known = [row for row in rows if (row.representation, row.result) == _key(candidate)]
        if not known or not isinstance(candidate, Representation):  # a run may have been tuned and scored anew
            rows = [row for row in rows if row not in known]
            rows.append(ceiling(truths, candidate) if isinstance(candidate, Representation) else row_of_run(candidate))
            if not isinstance(candidate, Representation) and RunFolder(Path(candidate)).stale_file.is_file():
                text = f"the scores of {candidate} are older than its model or settings; run `morula predict {candidate}` first"
                yield Warned("compare.out_of_date", text)
            # after each row, so that a stopped comparison continues
            write_table(folder / "comparison.csv", {name: [getattr(row, name) for row in rows] for name in asdict(rows[0])})
        yield Progress(done, len(chosen) + len(runs), "representation", str(candidate))
    asked = [row for candidate in [*chosen, *runs] for row in rows if (row.representation, row.result) == _key(candidate)]
    yield from map(Logged, lines(asked))
    yield FileWritten(folder / "comparison.csv", Artefact.COMPARISON)
    if chosen:
        by_name = {row.representation: row for row in asked if row.result == CEILING}
        yield FileWritten(
            picture(folder / "comparison.png", truths, chosen, by_name), Artefact.PICTURE, "one image, one row per representation"
        )
    figures = {f"{row.representation}{'' if row.result == CEILING else f' ({row.result})'} F1@0.9": row.f1_90 for row in asked}
    yield Finished(time.monotonic() - began, figures)


def ceiling(truths: Truths, representation: Representation, options: Mapping[str, object] | None = None) -> Row:
    """Scores of labels that are encoded and decoded; `options` are those of the decoder.

    Raises:
        DataError: when there is no object.
    """
    scores = []
    for labels, spacing in truths.arrays():
        channels = encode(labels, representation.channels, voxel_size=spacing)
        found = decode_objects(channels, representation.channels, representation.decoder, options, voxel_size=spacing).labels
        scores.append(match(labels, found, thresholds=THRESHOLDS))
    pooled = {score.threshold: (score.n_true, score.f1, score.panoptic_quality) for score in pool(scores)}
    if not pooled or not pooled[0.5][0]:
        rule = "the label images contain no object, so nothing can be compared"
        raise DataError("compare.no_objects", rule, remedy="Check that they are the right files.")
    return Row.of((str(representation), representation.decoder, CEILING), len(scores), pooled)


def row_of_run(run: str | Path) -> Row:
    """The scores of a run on its test images.

    Raises:
        DataError: when it has no scores of objects.
    """
    folder = RunFolder.existing(run)
    table = read_table(folder.scores_file) if folder.scores_file.is_file() else {}
    if not {"threshold", "f1", "panoptic_quality"} <= set(table):
        remedy = f"Run `morula predict {run}` and `morula evaluate {run}` first."
        raise DataError("compare.no_scores", "the run has no scores of objects", file=run, remedy=remedy)
    pooled = table["image"] == "pooled"
    figures = zip(*(table[name][pooled].tolist() for name in ("threshold", "n_true", "f1", "panoptic_quality")), strict=True)
    job = load_job(folder.job_file)
    codes: dict[str, dict[str, object]] = {channel.kind: {} for channel in getattr(job.method, "channels", ())}
    decoder = decoder_name(build_channels(codes), job.objects.decoder) if codes else job.method.kind
    images = len(set(table["image"].tolist()) - {"pooled"})
    return Row.of(
        ("+".join(codes) or job.method.kind, decoder, str(run)),
        images,
        {figure[0]: (int(figure[1]), figure[2], figure[3]) for figure in figures},
    )


def _key(candidate: Representation | str | Path) -> tuple[str, str]:
    """Key of a row: representation and result."""
    if isinstance(candidate, Representation):
        return str(candidate), CEILING
    job = load_job(RunFolder.existing(candidate).job_file)
    return "+".join(channel.kind for channel in getattr(job.method, "channels", ())) or job.method.kind, str(candidate)


def stored(folder: Path, truths: Truths) -> list[Row]:
    """Rows of an earlier call in this folder; rows of other label images are removed."""
    facts = {
        "labels": [[str(labels.source), *labels.spatial_shape] for labels in truths.labels],
        "spacing": [labels.spacing for labels in truths.labels],
    }
    plan, table = folder / "comparison.json", folder / "comparison.csv"
    text = json.dumps({**facts, "unlabelled": truths.unlabelled}, indent=1)
    if plan.is_file() and plan.read_text(encoding="utf-8") == text and table.is_file():
        columns = {name: values.tolist() for name, values in read_table(table).items()}
        return [Row(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]
    table.unlink(missing_ok=True)
    with atomic(plan) as part:
        part.write_text(text, encoding="utf-8")
    return []


def lines(rows: Sequence[Row]) -> list[str]:
    """The comparison as lines of text, the best F1 at 0.9 first.

    Examples:
        >>> print("\\n".join(lines([Row("F+C", "watershed", CEILING, 2, 9, 1.0, 0.9, 0.8, 0.95)])))
        representation  decoder    result        objects  F1@0.5  F1@0.75  F1@0.9
        F+C             watershed  labels alone        9   1.000    0.900   0.800
    """
    ordered = sorted(rows, key=lambda row: 1.0 if math.isnan(row.f1_90) else -row.f1_90)  # rows without a score come last
    cells = [["representation", "decoder", "result", "objects", "F1@0.5", "F1@0.75", "F1@0.9"]]
    cells += [
        [row.representation, row.decoder, row.result, str(row.objects), *(f"{figure:.3f}" for figure in (row.f1_50, row.f1_75, row.f1_90))]
        for row in ordered
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < 3 else cell.rjust(width) for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]


def picture(file: Path, truths: Truths, chosen: Sequence[Representation], rows: Mapping[str, Row]) -> Path:
    """A picture of one image: one row per representation with its channels, its objects and their errors."""
    # the image with most objects shows most of the errors
    labels, spacing = max(truths.arrays(), key=lambda pair: len(np.unique(pair[0])))
    shown = []
    for representation in chosen:
        channels = encode(labels, representation.channels, voxel_size=spacing)
        found = decode_objects(channels, representation.channels, representation.decoder, voxel_size=spacing).labels
        row = rows[str(representation)]
        figures = f"F1@0.5 {row.f1_50:.3f}   F1@0.75 {row.f1_75:.3f}   F1@0.9 {row.f1_90:.3f}"
        shown.append(Shown(f"{representation}   {representation.decoder}   {figures}", channels, found))
    return contact_sheet(file, labels, shown)
