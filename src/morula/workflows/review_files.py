"""Files of a review: corrected labels, the table of decisions, and which voxels a person has judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from morula.core.claims import claimed
from morula.core.errors import MissingFileError
from morula.core.image import Image
from morula.core.label_image import smallest_type
from morula.core.location import stem_of
from morula.core.manifest import RESULTS, recording
from morula.core.outputs import Destination, check_outputs
from morula.io.read import read_labels
from morula.io.write import files_behind, write
from morula.measurement.csv_table import read_table, write_table
from morula.workflows.corrections import Corrections

REVIEW, KNOWN = "_review.csv", "_known.tif"
"""What the names of the two files beside the labels end in."""


def save_review(corrections: Corrections, labels_file: str | Path) -> list[Path]:
    """Write the corrected labels, ``NAME_review.csv`` with one row per object, and ``NAME_known.tif``, a mask of the voxels that count as
    annotated: labels and mask are training data of a job (`images.train.labels` and `mask`).

    Files that are as an earlier call wrote them are replaced; no other file is.

    Raises:
        FileWriteError: when a file exists that Morula did not write, or is an input, or the disk is full.

    Examples:
        >>> import tempfile
        >>> corrections = Corrections(np.eye(4, dtype=np.uint8))
        >>> corrections.accept(1)
        >>> [file.name for file in save_review(corrections, Path(tempfile.mkdtemp()) / "cells.tif")]
        ['cells.tif', 'cells_review.csv', 'cells_known.tif']
    """
    labels_file = Path(labels_file).expanduser()
    table, mask = files_beside(labels_file)
    read = [] if corrections.image is None else files_behind(corrections.image)
    outputs = [Destination(file, proven=True) for file in (labels_file, table, mask)]
    check_outputs(outputs, [*read, *([] if corrections.source is None else [corrections.source])], overwrite=True)
    axes, size = "ZYX"[-len(corrections.shape) :], corrections.voxel_size
    values = corrections.labels.astype(smallest_type(int(corrections.labels.max())))
    with claimed([labels_file, table, mask]), recording(labels_file.parent, RESULTS):
        write(labels_file, values, axes=axes, voxel_size=size, labels=True, overwrite=True)
        write_table(table, corrections.review())
        write(mask, corrections.known().astype(np.uint8), axes=axes, voxel_size=size, labels=True, overwrite=True)
    return [labels_file, table, mask]


def load_review(labels_file: str | Path, *, image: Image | None = None) -> Corrections:
    """The review that `save_review` wrote, to continue it: with the decisions, without the steps that undo would take back.

    Raises:
        MissingFileError: when one of the three files is missing.
        DataError: when they do not belong together.
    """
    labels_file = Path(labels_file).expanduser()
    table, mask = files_beside(labels_file)
    missing = next((file for file in (table, mask) if not file.is_file()), None)
    if missing is not None:
        remedy = "Name the labels that the window Correct, or `save_review`, wrote."
        raise MissingFileError("review.missing", "is missing beside the labels", file=missing, remedy=remedy)
    corrections = Corrections(read_labels(labels_file), image=image)
    corrections.source = None  # a review may be saved to its own file
    corrections.restore(read_table(table), np.asarray(read_labels(mask).canonical()[0]) > 0)
    return corrections


def files_beside(labels_file: Path) -> tuple[Path, Path]:
    """The table and the mask beside a file of corrected labels.

    Examples:
        >>> [file.name for file in files_beside(Path("out/cells.ome.zarr"))]
        ['cells_review.csv', 'cells_known.tif']
    """
    stem = stem_of(labels_file)
    return labels_file.with_name(f"{stem}{REVIEW}"), labels_file.with_name(f"{stem}{KNOWN}")


def free_file(folder: Path, name: str) -> Path:
    """A name for corrected labels in a folder that no file has: ``NAME_corrected.tif``, or with a number."""
    names = (folder / f"{name}_corrected{f'-{number}' if number > 1 else ''}.tif" for number in range(1, 10_000))
    return next(file for file in names if not file.exists())
