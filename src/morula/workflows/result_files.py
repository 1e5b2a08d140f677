"""Names of the files beside the labels of an image."""

from __future__ import annotations

from pathlib import Path

from morula.core.location import split_location, stem_of, suffix_of


def file_of_results(labels_file: Path) -> Path:
    """A name for what is written beside the labels: of a data set in a file or Zarr folder with the name of the data set.

    Examples:
        >>> file_of_results(Path("out.h5:/cells")).name, file_of_results(Path("out.tif")).name
        ('out_cells.h5', 'out.tif')
        >>> file_of_results(Path("a/scan.ome.zarr/labels/cells")).as_posix()
        'a/scan_labels_cells.ome.zarr'
    """
    file, inner = split_location(labels_file)
    if inner is None:
        return labels_file
    return file.with_name(f"{stem_of(file)}_{inner.replace('/', '_')}{suffix_of(file)}")


def point_name(name: str, point: int) -> str:
    """The name of a time point of a series, counted from 0.

    Examples:
        >>> point_name("cells", 3)
        'cells_t0003'
    """
    return f"{name}_t{point:04d}"


def intermediates_path(labels_file: Path) -> Path:
    """The folder of the inputs of the decoder."""
    return file_of_results(labels_file).parent / "intermediates"


def raw_labels_path(labels_file: Path) -> Path:
    """Path of the labels before post-processing: a file of the same name in the folder `before`."""
    place = file_of_results(labels_file)
    return place.parent / "before" / place.name


def class_image_path(labels_file: Path) -> Path:
    """Path of the class image of a label file.

    Examples:
        >>> class_image_path(Path("objects/cells.tif")).as_posix()
        'objects/classes/cells.tif'
    """
    place = file_of_results(labels_file)
    return place.parent / "classes" / place.name


def table_path(labels_file: Path, suffix: str = "") -> Path:
    """Path of the table of a label file.

    Examples:
        >>> table_path(Path("out/cells.ome.zarr")).name, table_path(Path("cells.t1.tif"), "_all").name
        ('cells.csv', 'cells.t1_all.csv')
    """
    place = file_of_results(labels_file)
    return place.with_name(f"{stem_of(place)}{suffix}.csv")


def provenance_path(labels_file: Path) -> Path:
    """Path of the record of what the labels depend on.

    Examples:
        >>> provenance_path(Path("out/cells.ome.zarr")).name
        'cells.provenance.json'
    """
    place = file_of_results(labels_file)
    return place.with_name(f"{stem_of(place)}.provenance.json")
