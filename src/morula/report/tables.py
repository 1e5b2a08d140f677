"""Texts and tables of a report, from the files of a run."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from morula.report.curves import Line
from morula.report.panels import Panel
from morula.report.run_folder import Document, Row, RunContents

_TITLES = {
    "tp": "found (TP)",
    "fp": "false (FP)",
    "fn": "missed (FN)",
    "f1": "F1",
    "iou": "IoU",
    "dice": "Dice",
    "panoptic_quality": "panoptic quality",
    "average_precision": "average precision 0.5 to 0.95",
    "adapted_rand_error": "adapted Rand error",
    "variation_split": "split (bits)",
    "variation_merge": "merged (bits)",
    "mean_true_score": "mean true score",
    "slice_f1": "F1 by slice",
    "foreground_dice": "foreground Dice",
    "mean_matched_score": "mean matched IoU",
    "n_true": "true objects",
    "n_pred": "predicted objects",
    "threshold": "IoU threshold",
}


@dataclass(frozen=True)
class ScoreTable:
    """Rows of cells under titles. `figure` numbers the columns that hold a score between 0 and 1, drawn as bars."""

    titles: list[str]
    rows: list[list[str]]
    figures: frozenset[int] = frozenset()


class Tuning(NamedTuple):
    """The result of a search of settings: a sentence, and the settings before and after."""

    words: str
    table: ScoreTable


def number(text: object) -> float:
    """The number in a text, NaN if it is not a number.

    Examples:
        >>> number("0.5"), number(""), number("mean")
        (0.5, nan, nan)
    """
    try:
        return float(str(text))
    except (TypeError, ValueError):
        return math.nan


def short(text: object) -> str:
    """A cell: whole numbers as they are, others with three decimals, a dash for nothing.

    Examples:
        >>> short("12"), short("0.87654"), short("nan"), short("foreground"), short("1.2e-05")
        ('12', '0.877', '–', 'foreground', '1.2e-05')
    """
    value = number(text)
    if math.isnan(value):
        return "–" if str(text).lower() in ("", "nan", "none") else str(text)
    if value == int(value) and abs(value) < 1e15 and "." not in str(text):
        return str(int(value))
    return f"{value:.3f}" if value == 0 or abs(value) >= 5e-4 else f"{value:.3g}"


def title(column: str) -> str:
    """Column name in words."""
    return _TITLES.get(column, column.replace("_", " "))


def key_column(scores: Sequence[Row]) -> str | None:
    """The column that distinguishes the rows of one image: threshold or class."""
    return next((key for key in ("threshold", "class") if scores and key in scores[0]), None)


def headline(scores: Sequence[Row]) -> str | None:
    """The score by which images are compared: F1, IoU, or the first one in the table."""
    columns = [name for name in (scores[0] if scores else ()) if name not in ("image", "class", "threshold")]
    # which figures a table has depends on the method, so known names are tried first
    return next((name for name in ("f1", "iou") if name in columns), next(iter(columns), None))


WHOLE = ("average_precision", "adapted_rand_error", "variation_split", "variation_merge")
"""Columns with scores of the whole image, repeated in each of its rows."""


def pooled_table(scores: Sequence[Row]) -> ScoreTable | None:
    """Scores of all images together, one row per threshold or class."""
    rows = [row for row in scores if row["image"] == "pooled"]
    if not rows:
        return None
    return _table([column for column in rows[0] if column not in ("image", *WHOLE) and not column.endswith("_before")], rows)


def before_table(scores: Sequence[Row]) -> ScoreTable | None:
    """F1, panoptic quality and counts before post-processing and after it, one row per threshold; `None` without post-processing."""
    rows = [row for row in scores if row["image"] == "pooled"]
    names = ("f1", "panoptic_quality", "tp", "fp", "fn")
    if not rows or "f1_before" not in rows[0]:
        return None
    titles = [title("threshold"), *(f"{title(name)} {when}" for name in names for when in ("before", "after"))]
    cells = [[row["threshold"], *(short(row[key]) for name in names for key in (f"{name}_before", name))] for row in rows]
    return ScoreTable(titles, cells)


def whole_table(scores: Sequence[Row]) -> ScoreTable | None:
    """Scores of whole images: pooled, then one row per image."""
    rows = list({row["image"]: row for row in scores}.values())
    if not rows or WHOLE[0] not in rows[0]:
        return None
    # the pooled row is last in the file and first in the report, where it is the result
    rows = [rows[-1], *rows[:-1]] if rows[-1]["image"] == "pooled" else rows
    return _table(["image", *WHOLE], rows)


def baseline_table(run: RunContents) -> ScoreTable | None:
    """The headline figure of the run's method and of plain methods, pooled, one row per method."""
    kind, key, figure = str((run.job.get("method") or {}).get("kind", "method")), key_column(run.scores), headline(run.scores)
    if not run.baselines or key is None or figure is None:
        return None
    found: dict[str, dict[str, str]] = {}
    for row in [*({"method": kind, **row} for row in run.scores), *run.baselines]:
        if row["image"] == "pooled":
            found.setdefault(row["method"], {})[row[key]] = row[figure]
    keys = list(found[kind])
    titles = ["method", *(f"{title(figure)} @ {key}" for key in keys)]
    rows = [[name, *(short(figures.get(key, "")) for key in keys)] for name, figures in found.items()]
    return ScoreTable(titles, rows, frozenset(range(1, 1 + len(keys))))


def class_table(scores: Sequence[Row]) -> ScoreTable | None:
    """Scores of the classes of objects in all images together, at the first threshold."""
    rows = [row for row in scores if row["image"] == "pooled" and row["threshold"] == scores[0]["threshold"]]
    columns = ["class", "f1", "precision", "recall", "n_true", "n_pred", "tp"]
    return _table(columns, rows) if rows else None


def image_table(scores: Sequence[Row]) -> ScoreTable | None:
    """One row per image: its headline figure at each threshold or class, and the counts at the first threshold; the worst first."""
    key, figure = key_column(scores), headline(scores)
    images: dict[str, list[Row]] = {}
    for row in scores:
        if row["image"] != "pooled":
            images.setdefault(row["image"], []).append(row)
    if not images or figure is None:
        return None
    if key is None:
        return _table(list(scores[0]), [row for rows in images.values() for row in rows])
    keys = list(dict.fromkeys(row[key] for rows in images.values() for row in rows))
    counts = [column for column in ("tp", "fp", "fn") if column in scores[0]]
    titles = ["image", *(f"{title(figure)} @ {column}" if key == "threshold" else f"{title(figure)} {column}" for column in keys)]
    titles += [f"{title(column)} @ {keys[0]}" for column in counts]
    rows = []
    # the worst image first: it shows best what to improve
    for name in sorted(images, key=lambda image: image_score(scores, image)):
        by_key = {row[key]: row for row in images[name]}
        first = by_key.get(keys[0], {})
        figures = ["–" if without_objects(first) else short(by_key.get(key, {}).get(figure, "")) for key in keys]
        rows.append([name, *figures, *(short(first.get(count, "")) for count in counts)])
    return ScoreTable(titles, rows, frozenset(range(1, 1 + len(keys))))


def without_objects(row: Row) -> bool:
    """Whether neither the truth nor the result has an object: its scores, 0 in the table, then mean nothing."""
    return all(number(row.get(count)) == 0 for count in ("tp", "fp", "fn"))


def image_score(scores: Sequence[Row], name: str) -> float:
    """Figure by which an image is ranked: F1 at the first threshold, or the mean IoU of its classes; infinity when it has none."""
    figure = headline(scores)
    rows = [row for row in scores if row["image"] == name]
    if figure is None or not rows or without_objects(rows[0]):  # nothing to score is neither good nor bad: such images come last
        return math.inf
    if key_column(scores) == "threshold":
        value = number(rows[0][figure])
    else:
        values = [value for row in rows if not math.isnan(value := number(row[figure]))]
        value = sum(values) / len(values) if values else math.nan
    return math.inf if math.isnan(value) else value


def _table(columns: Sequence[str], rows: Sequence[Row]) -> ScoreTable:
    figure = headline(rows)
    cells = [[row.get(column, "") if column == "threshold" else short(row.get(column, "")) for column in columns] for row in rows]
    bars = frozenset(index for index, column in enumerate(columns) if column == figure and column in ("f1", "iou"))
    return ScoreTable([title(column) for column in columns], cells, bars)


def threshold_lines(scores: Sequence[Row]) -> list[Line]:
    """Pooled scores over the IoU threshold, if there are three thresholds or more."""
    rows = [row for row in scores if row["image"] == "pooled"]
    if key_column(scores) != "threshold" or len(rows) < 3:
        return []
    x = [number(row["threshold"]) for row in rows]
    return [
        Line(title(column), x, [number(row[column]) for row in rows])
        for column in ("f1", "precision", "recall", "panoptic_quality")
        if column in rows[0]
    ]


def training_lines(rows: Sequence[Row]) -> dict[str, list[Line]]:
    """Lines of the training table by chart: losses, their parts if there are several, scores, learning rate."""
    if not rows:
        return {}
    x = [number(row["epoch"]) for row in rows] if "epoch" in rows[0] else [float(index) for index in range(1, len(rows) + 1)]
    columns = {
        name: [number(row.get(name)) for row in rows] for name in rows[0] if name not in ("epoch", "epochs", "step", "seconds", "best")
    }
    parts = [name for name in columns if name.startswith("loss_")]
    charts: dict[str, list[Line]] = {"Loss": [], "Parts of the loss": [], "Validation scores": [], "Learning rate": []}
    for name, values in columns.items():
        line = Line(words(name), x, values)
        if name in ("loss", "validation_loss"):
            charts["Loss"].append(line)
        elif "loss_" in name:
            # a part of the validation loss has the colour of the same part of the training loss, dashed
            trained = words(name.removeprefix("validation_"))
            line = line if line.name == trained else Line(line.name, x, values, like=trained, kind="validation")
            charts["Parts of the loss"] += [line] if len(parts) > 1 else []
        elif name in ("lr", "rate"):  # `rate` in runs of earlier versions
            charts["Learning rate"].append(line)
        elif any(math.isfinite(value) for value in values):
            charts["Validation scores"].append(line)
    return {name: lines for name, lines in charts.items() if lines}


def words(name: str) -> str:
    """Name of a figure in a legend.

    Examples:
        >>> words("loss"), words("validation_loss_bce")
        ('training', 'bce (validation)')
    """
    if name == "loss":
        return "training"
    if name == "validation_loss":
        return "validation"
    shown = name.removeprefix("validation_").removeprefix("loss_").replace("_", " ")
    return f"{shown} (validation)" if name.startswith("validation_") else shown


def best_epoch(rows: Sequence[Row]) -> float | None:
    """The last epoch that was the best so far."""
    best = [number(row.get("epoch")) for row in rows if str(row.get("best", "")).lower() in ("true", "1", "1.0")]
    if not best:  # runs of older versions have no column `best`
        watched = [(number(row.get("validation_loss")), number(row.get("epoch"))) for row in rows]
        finite = [pair for pair in watched if all(map(math.isfinite, pair))]
        return min(finite)[1] if finite else None
    return best[-1]


def settings(job: Document) -> list[tuple[str, str]]:
    """The main settings of a job in words."""
    method, sampling, training = (job.get(key) or {} for key in ("method", "sampling", "training"))
    network, objects, images = (job.get(key) or {} for key in ("network", "objects", "images"))
    found = [(f"images: {key}", _source(images.get(key))) for key in ("train", "validate", "test")]
    found += [
        ("voxel size", _flat(images.get("voxel_size")).replace("um", "µm")),
        ("method", _flat(method)),
        ("network", _flat(network)),
        ("sampling", _flat(sampling)),
        ("augmentation", _flat(job.get("augment"))),
        ("training", _flat(training)),
        ("prediction", _flat(job.get("prediction"))),
        ("objects", _flat({key: value for key, value in objects.items() if key != "tuned"})),
    ]
    return [(name, text) for name, text in found if text]


def tuned(job: Document) -> Tuning | None:
    """Result of the search on the validation images: a sentence, and the settings before and after; `None` without a search.

    Examples:
        >>> record = {"metric": "f1", "thresholds": [0.5], "images": 3, "trials": 40, "score_before": 0.7, "score_after": 0.75}
        >>> tuned({"objects": {"tuned": record}}).words
        'f1 at 0.5 rose from 0.7000 to 0.7500 (+0.0500) on 3 validation images; 40 settings were tried. Test images were not used.'
    """
    record = (job.get("objects") or {}).get("tuned")
    if not record:
        return None
    at = f" at {', '.join(f'{threshold:g}' for threshold in record['thresholds'])}" if record.get("thresholds") else ""
    before, after = float(record["score_before"]), float(record["score_after"])
    change = f"rose from {before:.4f} to {after:.4f} (+{after - before:.4f})" if after > before else f"stayed at {after:.4f}"
    words = (
        f"{record['metric'].replace('_', ' ')}{at} {change} on {record['images']} validation image{'s' * (record['images'] != 1)}; "
        f"{record['trials']} settings were tried. Test images were not used."
    )
    old, new = record.get("before") or {}, record.get("after") or {}
    rows = [[key, *(_setting(threshold.get(key)) for threshold in (old, new))] for key in new]
    return Tuning(words, ScoreTable(["setting", "before", "after"], rows))


def _setting(value: object) -> str:
    return "none" if value is None else _flat(value)


def _source(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{value.get('raw')}" + (f", labels {value['labels']}" if value.get("labels") else ", no labels")
    return f"{100 * value:g} % of the training images" if isinstance(value, float) else _flat(value)


def _flat(value: object) -> str:
    """A nested value on one line; empty values are left out.

    Examples:
        >>> _flat({"kind": "unet", "features": [16, 32], "weights": None, "schedule": {"kind": "one_cycle"}})
        'unet, features 16 32, schedule one_cycle'
    """
    if isinstance(value, Mapping):
        kind = [str(value["kind"])] if "kind" in value else []
        rest = [(key, inner) for key, inner in value.items() if key != "kind" and inner not in (None, {}, [], ())]
        return ", ".join(kind + [f"{key.replace('_', ' ')} {_inner(inner)}".rstrip() for key, inner in rest])
    if isinstance(value, list | tuple):
        plain = all(not isinstance(item, list | tuple | Mapping) for item in value)
        return (" " if plain else "; ").join(_inner(item) for item in value)
    return "" if value is None else {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _inner(value: object) -> str:
    text = _flat(value)
    return f"({text})" if isinstance(value, Mapping) and ", " in text else text


def channels_of(job: Document) -> list[str]:
    """Codes of the channels that the network predicts, empty for other methods.

    Examples:
        >>> channels_of({"method": {"channels": {"F": {}, "C": {"mode": "inner"}}}}), channels_of({"method": {"channels": ["F", "Db"]}})
        (['F', 'C'], ['F', 'Db'])
    """
    channels = (job.get("method") or {}).get("channels") or []
    if isinstance(channels, Mapping):
        return [str(code) for code in channels]
    return [str(channel.get("kind", next(iter(channel), ""))) if isinstance(channel, Mapping) else str(channel) for channel in channels]


def facts(run: RunContents, panels: Sequence[Panel]) -> list[str]:
    """The line below the title: method, date, and size of the images and their voxels."""
    parts = [f"{name} {(run.job.get(name) or {}).get('kind', '')}" for name in ("method", "network")]
    parts = [part for part in parts if not part.endswith(" ")]
    with contextlib.suppress(ValueError):  # runs of older versions have no date
        parts.append(f"{datetime.fromisoformat(str(run.provenance.get('written'))):%d %B %Y}".lstrip("0"))
    if panels:
        parts.append(str(panels[0]["voxel"]))
    return parts


def are_scores(chart: str, lines: Sequence[Line]) -> bool:
    """Whether a chart shows scores between 0 and 1."""
    return chart == "Validation scores" and all(0 <= y <= 1 for line in lines for _, y in line.points)


def duration(seconds: float) -> str:
    """A time in words.

    Examples:
        >>> duration(12.3), duration(200), duration(7500)
        ('12 s', '3.3 min', '2.1 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def cards(run: RunContents, n_objects: int | None) -> list[tuple[str, str, str]]:
    """The figures at the top: value, name, remark."""
    found: list[tuple[str, str, str]] = []
    pooled = [row for row in run.scores if row["image"] == "pooled"]
    key, figure = key_column(run.scores), headline(run.scores)
    if figure is not None:
        for row in headline_rows(pooled, key):
            name = f"{title(figure)} @ {row[key]}" if key == "threshold" else f"{title(figure)} {row[key]}" if key else title(figure)
            found.append((short(row[figure]), name, "all test images"))
    if pooled and "panoptic_quality" in pooled[0]:
        found.append((short(pooled[0]["panoptic_quality"]), f"PQ @ {pooled[0].get('threshold', '')}", "panoptic quality"))
    if run.images:
        found.append((str(len(run.images)), "images", "predicted"))
    if n_objects is not None:
        found.append((f"{n_objects:,}".replace(",", "\u202f"), "objects", "found in them"))
    if run.training:
        seconds = sum(value for row in run.training if math.isfinite(value := number(row.get("seconds"))))
        best = best_epoch(run.training)
        remark = ([duration(seconds)] if seconds > 0 else []) + ([] if best is None else [f"best: {best:g}"])
        found.append((str(len(run.training)), "epochs", ", ".join(remark)))
    return found


def headline_rows(pooled: Sequence[Row], key: str | None) -> list[Row]:
    """Pooled rows for the cards: the first threshold and 0.75 (or the last), the mean over classes or the only class."""
    # few figures: a loose threshold says whether objects are found, a strict one how well their outlines fit
    if key == "threshold" and len(pooled) > 1:
        return [pooled[0], next((row for row in pooled[1:] if number(row[key]) == 0.75), pooled[-1])]
    return list(pooled[-1:])


def environment_rows(provenance: Document) -> list[tuple[str, str]]:
    """Entries of the provenance record that fit on a line; lists of inputs are counted."""
    rows: list[tuple[str, str]] = []
    for key, value in provenance.items():
        if isinstance(value, Mapping) and len(value) <= 20 and all(not isinstance(inner, Mapping | list) for inner in value.values()):
            rows += [(inner.replace("_", " "), short_text(inner_value)) for inner, inner_value in value.items()]
        elif isinstance(value, Mapping | list):
            rows.append((key.replace("_", " "), f"{len(value)} entries in provenance.json"))
        else:
            rows.append((key.replace("_", " "), short_text(value)))
    return rows


def lasting(provenance: Document) -> Document:
    """The record without what differs each time that the images are predicted, so that equal results have equal reports."""
    steps = {
        name: {key: value for key, value in step.items() if key not in ("written", "memory", "command")}
        for name, step in provenance.items()
        if name == "predict" and isinstance(step, Mapping)
    }
    return {**provenance, **steps}


def short_text(value: object) -> str:
    """A value as text; checksums cut to twelve digits."""
    text = str(value)
    return f"{text[:12]}…" if re.fullmatch(r"[0-9a-f]{40,}", text) else text
