"""Write the report of a run folder: one HTML page that loads nothing from the network and no other file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from morula.core.atomic import atomic
from morula.core.errors import FileWriteError
from morula.core.manifest import MANIFEST, is_own, recorded, recording
from morula.core.os_errors import naming_os_errors
from morula.jobs.run_folder import check_is_run, damaged
from morula.report import tables
from morula.report.curves import line_chart
from morula.report.film import film
from morula.report.panels import ObjectRow, Opened, Panel, Reading, Tags, object_rows, open_image, panel, thumbnail
from morula.report.populations import Populations, spread_of_scores
from morula.report.reliability import reliability
from morula.report.run_folder import RunContents, RunImage, read_run
from morula.report.terms import explain, explain_channel
from morula.report.verdict import verdict

REPORT, MARK = "report.html", b" - Morula report</title>"
"""The file, and what its first lines hold."""
UNIT = (0.0, 1.0)
"""Axis of all scores: fixed, so that reports can be compared."""
OBJECTS = 40
"""Most objects that the table shows."""
VOXELS = 500_000_000
"""Images are examined for single objects until they have this many voxels; those with pictures come first."""


def write_report(run: Path | str, *, n_images: int = 8) -> Path:
    """Write ``report.html`` into a run folder, from whatever the run has done so far.

    Args:
        run: a run folder: finished, stopped, or predicted only.
        n_images: number of images that are shown with pictures, from the worst score to the best.

    Returns:
        path of the report.

    Raises:
        MissingFileError: when the folder does not exist, or no run has written into it.
        FileReadError: when a part of it is damaged.
        FileWriteError: when the report cannot be written, or would replace a ``report.html`` that Morula did not write.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = Path(folder.name, "provenance.json").write_text('{"seed": 7}')
        >>> write_report(folder.name).name
        'report.html'
        >>> folder.cleanup()
    """
    with naming_os_errors():
        return _written(run, n_images)


def _written(run: Path | str, n_images: int) -> Path:
    check_is_run(Path(run))
    contents = read_run(run)
    _check_own(contents.path)
    # without the lock of the folder: a report may be written while a training is running
    recorder = recording(contents.path) if (contents.path / MANIFEST).is_file() else nullcontext()
    with recorder, atomic(contents.path / REPORT) as part:
        part.write_text(_readable_page(contents, n_images), encoding="utf-8", errors="replace")
    return contents.path / REPORT


def _check_own(folder: Path) -> None:
    """Reject a folder whose ``report.html`` is not the report of a run as Morula wrote it: it would be replaced.

    Raises:
        FileWriteError: ``output.not_own``.
    """
    file, known = folder / REPORT, recorded(folder) or {}
    if not os.path.lexists(file):
        return
    if REPORT in known:
        own = is_own(folder, REPORT, known)
    else:  # of a run of an earlier version
        own = file.is_file() and not file.is_symlink() and MARK in file.read_bytes()[:1000]
    if not own:
        rule = "exists, but is not as Morula wrote it, so it is not replaced"
        raise FileWriteError("output.not_own", rule, file=file, remedy="Move or delete it yourself.")


_DAMAGED = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError, OSError)
"""What the code below raises for tables with other columns or cells, and for images of other shapes, than a run writes."""
_PARTS: dict[str, dict[str, list[object] | dict[str, object]]] = {
    "scores.csv": {"scores": []},
    "class_scores.csv": {"class_scores": []},
    "baselines.csv": {"baselines": []},
    "logs/training.csv": {"training": []},
    "logs/previews": {"previews": []},
    "provenance.json": {"provenance": {}},
    "job.yaml": {"job": {}},
    "report/images.json": {"images": []},
}


def _readable_page(run: RunContents, n_images: int) -> str:
    """The report; of a run with a damaged part without it, and with a warning that names it. Run folders come from others, too.

    Raises:
        FileReadError: when several parts are damaged.
    """
    try:
        return page(run, n_images=n_images)
    except _DAMAGED as error:
        failure = error
    reason = f"{type(failure).__name__}: {(str(failure).splitlines() or [''])[0][:120]}"
    for name, empty in _PARTS.items():
        warning = f"{name} is damaged and left out of this report ({reason})."
        try:
            return page(replace(run, warnings=[*run.warnings, warning], **empty), n_images=n_images)  # type: ignore[arg-type]
        except _DAMAGED:
            continue
    raise damaged(run.path, f"several of its files cannot be shown ({reason})") from failure


def page(run: RunContents, *, n_images: int = 8) -> str:
    """The report as HTML."""
    reading = Reading.of(run)
    shown = chosen(run, n_images)
    seen = examine(run, shown, reading)
    panels, rows, populations = seen.panels, seen.worst, seen.populations
    reliable = reliability(seen.rows)
    examined = len(populations.counts)
    scored = any(image.truth for image in run.images) and bool(run.scores)
    counted = count_objects(run) if reading.objects else None
    return _template().render(
        name=run.path.resolve().name,
        facts=tables.facts(run, panels),
        verdict=verdict(run, counted),
        links=links_of(run),
        version=version("morula"),
        style=_part("style.css"),
        script=_part("script.js"),
        cards=tables.cards(run, counted),
        missing=missing_parts(run),
        warnings=run.warnings,
        settings=tables.settings(run.job),
        job_text=run.job_text,
        charts=charts_of(run),
        film=film(run.previews, run.training),
        channels=tables.channels_of(run.job),
        baselines=tables.baseline_table(run),
        validated=any("validation_loss" in row for row in run.training),
        tuned=tables.tuned(run.job),
        pooled=tables.pooled_table(run.scores),
        before=tables.before_table(run.scores),
        whole=tables.whole_table(run.scores),
        classes=tables.class_table(run.class_scores),
        each_image=tables.image_table(run.scores),
        thresholds=line_chart(
            tables.threshold_lines(run.scores), title="Scores over the IoU threshold", x_label="IoU threshold", y_range=UNIT
        ),
        spread=spread_of_scores(run.scores),
        populations=populations.charts(run.scores) if reading.objects else {},
        reliability=reliable,
        panels=panels,
        places={image_panel["name"]: (index, image_panel["shape"]) for index, image_panel in enumerate(panels)},
        any_errors=any("errors" in image_panel["tiles"] for image_panel in panels),
        results={"TP": "found", "FN": "missed", "FP": "false"},
        with_truth=any(row.tag for row in rows),
        with_confidence=any(not math.isnan(row.confidence) for row in rows),
        planes=[Markup(json.dumps({"planes": image_panel["planes"], "numbers": image_panel["numbers"]})) for image_panel in panels],
        n_all=len(run.images),
        scored=scored,
        objects=reading.objects,
        rows=rows,
        examined=examined,
        n_rows=len(seen.rows),
        environment=tables.environment_rows(run.provenance),
        provenance=json.dumps(tables.lasting(run.provenance), indent=1, ensure_ascii=False) if run.provenance else "",
    )


def charts_of(run: RunContents) -> dict[str, Markup]:
    """Learning curves by title, with a mark at the best epoch."""
    best = tables.best_epoch(run.training)
    mark = (best, f"best epoch {best:g}") if best is not None else None
    lines = tables.training_lines(run.training)
    charts = {}
    for name, drawn in lines.items():
        # the rate is planned, so the best epoch says nothing about it
        chart_mark = None if name == "Learning rate" else mark
        charts[name] = line_chart(
            drawn, title=name, x_label="epoch", mark=chart_mark, y_range=UNIT if tables.are_scores(name, drawn) else None
        )
    return charts


def chosen(run: RunContents, n: int) -> list[RunImage]:
    """Up to `n` images, evenly spaced in the ranking by score, the worst first; by name without scores."""
    images = [image for image in run.images if image.raw or image.prediction]
    if run.scores:
        images = sorted(images, key=lambda image: tables.image_score(run.scores, image.name))
    if len(images) <= n:
        return images
    return [images[round(index * (len(images) - 1) / max(n - 1, 1))] for index in range(n)]


class Examined(NamedTuple):
    """Panels of the images shown, all objects, the worst of them with thumbnails, and the sizes and intensities of all."""

    panels: list[Panel]
    rows: list[ObjectRow]
    worst: list[ObjectRow]
    populations: Populations


def examine(run: RunContents, shown: Sequence[RunImage], reading: Reading) -> Examined:
    """Open the images of a run, those shown first."""
    panels: list[Panel] = []
    rows: list[ObjectRow] = []
    tags: dict[str, Tags] = {}
    populations = Populations()
    voxels = 0
    # images with pictures come first, so that the budget of voxels never leaves one of them without its objects
    for image in [*shown, *(image for image in run.images if image not in shown)]:
        if image not in shown and (voxels > VOXELS or not reading.objects):
            break
        try:
            opened = open_image(image, reading)
            found, tags[image.name] = object_rows(opened) if reading.objects else ([], Tags())
            if reading.objects:
                populations.add(opened)
            shown_panel = panel(opened, tags[image.name], reading) if image in shown else None
        except _DAMAGED as error:  # the report of the other images is still of use
            reason = (str(error).splitlines() or [""])[0][:200]
            run.warnings.append(f"The image {image.name} cannot be shown: its files are damaged or do not fit each other ({reason}).")
            continue
        rows += found
        voxels += math.prod(opened.shape)
        if shown_panel is not None:
            links = {"labels": run.relative(image.prediction), "table": run.relative(image.table)}
            shown_panel["links"] = {name: link for name, link in links.items() if link}
            panels.append(shown_panel)
    # thumbnails only of the objects that are shown: a run may have a million
    worst = sorted(rows, key=lambda row: row.place)[:OBJECTS]
    add_thumbnails(run, worst, tags, reading)
    return Examined(panels, rows, worst, populations)


def add_thumbnails(run: RunContents, rows: Sequence[ObjectRow], tags: dict[str, Tags], reading: Reading) -> None:
    """Cut a picture of each object, opening each image once."""
    for image in run.images:
        mine = [row for row in rows if row.image == image.name and row.centre]
        opened: Opened | None = open_image(image, reading) if mine else None
        for row in mine:
            assert opened is not None
            row.thumbnail = thumbnail(opened, row, tags[image.name])


def count_objects(run: RunContents) -> int | None:
    """Rows of all object tables together; `None` when there is no table."""
    found = [image.table for image in run.images if image.table is not None]
    return sum(max(0, len(path.read_text(encoding="utf-8", errors="replace").splitlines()) - 1) for path in found) if found else None


def links_of(run: RunContents) -> dict[str, str]:
    """Links to the main files of the run, by title."""
    files = {
        "scores": run.path / "scores.csv",
        "learning curves": run.path / "logs" / "training.csv",
        "log": run.path / "logs" / "log.txt",
        "job": run.path / "job.yaml",
        "label images and tables": run.path / "objects",
        "model": run.path / "model",
    }
    return {title: link for title, file in files.items() if file.exists() and (link := run.relative(file))}


def missing_parts(run: RunContents) -> list[str]:
    """Parts that the report lacks, beyond what the verdict says."""
    parts = []
    if not run.images and run.has_model:
        parts.append("No image has been predicted, so there are no pictures and no objects.")
    gone = [image.name for image in run.images if image.raw is None]
    if gone:
        parts.append(f"{len(gone)} raw images no longer exist at their paths: {', '.join(gone[:5])}{', ...' if len(gone) > 5 else ''}.")
    return parts


@cache
def _template() -> jinja2.Template:
    # names of files and settings are text of the user: the template escapes them; a missing variable is an error, not an empty text
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["explain"] = explain
    environment.filters["explain_channel"] = explain_channel
    environment.filters["number"] = lambda value: "–" if math.isnan(value) else f"{value:.2f}"
    return environment.from_string(files("morula.report").joinpath("page.html").read_text(encoding="utf-8"))


def _part(name: str) -> Markup:
    return Markup(files("morula.report").joinpath(name).read_text(encoding="utf-8"))
