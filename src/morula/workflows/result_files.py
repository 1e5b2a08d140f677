"""Names of the files beside the labels of an image."""

from __future__ import annotations

from pathlib import Path

from morula.core.location import stem_of


def raw_labels_path(labels_file: Path) -> Path:
    """Path of the labels before post-processing: a file of the same name in the folder `before`."""
    return labels_file.parent / "before" / labels_file.name


def class_image_path(labels_file: Path) -> Path:
    """Path of the class image of a label file.

    Examples:
        >>> class_image_path(Path("objects/cells.tif")).as_posix()
        'objects/classes/cells.tif'
    """
    return labels_file.parent / "classes" / labels_file.name


def table_path(labels_file: Path, suffix: str = "") -> Path:
    """Path of the table of a label file.

    Examples:
        >>> table_path(Path("out/cells.ome.zarr")).name, table_path(Path("cells.t1.tif"), "_all").name
        ('cells.csv', 'cells.t1_all.csv')
    """
    return labels_file.with_name(f"{stem_of(labels_file)}{suffix}.csv")


def provenance_path(labels_file: Path) -> Path:
    """Path of the record of what the labels depend on.

    Examples:
        >>> provenance_path(Path("out/cells.ome.zarr")).name
        'cells.provenance.json'
    """
    return labels_file.with_name(f"{stem_of(labels_file)}.provenance.json")
