"""Tables of results with the columns of BiaPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from morula.measurement.csv_table import read_table, write_table

Table = Mapping[str, Sequence[object] | np.ndarray]

# a column of BiaPy, and how the native column begins; units follow the name there
_COLUMNS = {
    2: (
        ("label", "label"), ("axis-0", "centroid_y"), ("axis-1", "centroid_x"), ("npixels", "voxels"), ("area", "area_"),
        ("circularity", "circularity"), ("diameter", "diameter"), ("perimeter", "perimeter_"), ("elongation", "elongation"),
    ),
    3: (
        ("label", "label"), ("axis-0", "centroid_z"), ("axis-1", "centroid_y"), ("axis-2", "centroid_x"), ("npixels", "voxels"),
        ("volume", "volume_"), ("sphericity", "sphericity"), ("diameter", "diameter"), ("perimeter (surface area)", "surface_area_"),
    ),
}  # fmt: skip
_MATCHING = (
    "fp", "tp", "fn", "precision", "recall", "accuracy", "f1", "n_true", "n_pred", "mean_true_score", "mean_matched_score",
    "panoptic_quality",
)  # fmt: skip


def object_columns(native: Table, extra: Sequence[str] = ()) -> dict[str, Sequence[object] | np.ndarray]:
    """A native table of objects with the columns of BiaPy.

    Args:
        native: columns by name, of objects in 2D or 3D.
        extra: names of additional properties.

    Examples:
        >>> row = {"label": [1], "voxels": [4], "area_px": [4.0], "centroid_y": [1.5], "centroid_x": [2.5], "diameter": [2]}
        >>> object_columns(row)
        {'label': [1], 'axis-0': [1.5], 'axis-1': [2.5], 'npixels': [4], 'area': [4.0], 'diameter': [2]}
    """
    own = {name: first for name, begins in _COLUMNS[3 if "centroid_z" in native else 2] if (first := _first(native, begins)) is not None}
    more = {name: column for name, column in native.items() if any(name == column or name.startswith(f"{column}_") for column in extra)}
    ends = {name: native[name] for name in ("comment", "conditions") if name in native}
    return {**{name: native[column] for name, column in own.items()}, **more, **ends}


def _first(native: Table, begins: str) -> str | None:
    """The column with this name, or with this beginning where it ends with an underscore."""
    return next((name for name in native if name == begins or (begins.endswith("_") and name.startswith(begins))), None)


def write_objects(source: Path, target: Path, extra: Sequence[str]) -> None:
    """Write a native table of objects with the columns of BiaPy."""
    write_table(target, object_columns(read_table(source), extra))


def write_metrics(
    target: Path, scores: Path, files: Mapping[str, str], channels: Mapping[str, Mapping[str, float]], *, matching: bool
) -> None:
    """Write ``test_results_metrics.csv``: one row per image.

    Args:
        target: the file.
        scores: the native table of scores, with several rows per image (one per threshold).
        files: names of the files of the images, by image.
        channels: figures of the predicted channels, by image.
        matching: whether the scores of objects are asked for.
    """
    native = read_table(scores)
    names = [str(name) for name in dict.fromkeys(native["image"].tolist()) if name not in ("pooled", "mean")]
    rows = {name: {"file": files.get(name, name), **channels.get(name, {})} for name in names}
    if "class" in native:
        _add_classes(rows, native)
    elif "threshold" not in native:  # restored images have one row each
        for name, row in rows.items():
            place = native["image"].tolist().index(name)
            row |= {key: native[key][place] for key in ("psnr", "mae", "mse", "ssim") if key in native}
    elif matching:
        _add_matching(rows, native)
    first = next(iter(rows.values()), {})
    write_table(target, {column: [row.get(column) for row in rows.values()] for column in first})


def _add_classes(rows: Mapping[str, dict[str, object]], native: Mapping[str, np.ndarray]) -> None:
    """Columns of each class; the mean of several comes first, with the plain name."""
    order = sorted(range(len(native["image"])), key=lambda place: native["class"][place] != "mean")
    single = len(set(native["class"].tolist())) == 1
    for place in order:
        image, name = str(native["image"][place]), str(native["class"][place])
        end = "" if single or name == "mean" else f" ({name})"
        if image in rows:
            rows[image].update({f"{figure}{end}": native[figure][place] for figure in ("iou", "dice")})


def _add_matching(rows: Mapping[str, dict[str, object]], native: Mapping[str, np.ndarray]) -> None:
    """Columns of each threshold: without post-processing first, then with it where there is some."""
    before = "f1_before" in native
    for part, suffix in (("", "_before" if before else ""), *([(" (post)", "")] if before else [])):
        for image, threshold, place in zip(native["image"], native["threshold"], range(len(native["image"])), strict=True):
            if str(image) in rows:
                # BiaPy has no space before the name of the figure with post-processing
                begin = f"{threshold:g} TH{part}" + ("" if part else " ")
                # the number of true objects is the same with and without post-processing
                columns = {name: native.get(f"{name}{suffix}", native[name]) for name in _MATCHING}
                rows[str(image)].update({f"{begin}{name}": values[place] for name, values in columns.items()})
