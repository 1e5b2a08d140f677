"""A folder ``masks`` with one picture per object, as in the 2018 Data Science Bowl: ``NAME/images/NAME.png`` and ``NAME/masks/*.png``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from morula.core.axes import Axes
from morula.core.errors import DataError
from morula.core.location import natural_key, suffix_of
from morula.io.formats.base import FileContent, Format, Request, reject_selection
from morula.io.formats.raster import Raster
from morula.io.formats.tiff import Tiff
from morula.io.metadata import MetadataWarning, tell

NAME = "masks"
_MOST_OVERLAP = 0.1


class MaskFolder(Format):
    """Read as labels: the masks in the natural order of their names get the ids 1, 2, 3, ..."""

    name: ClassVar[str] = "one mask per object"
    suffixes: ClassVar[tuple[str, ...]] = ()
    folder: ClassVar[bool] = True
    writes: ClassVar[bool] = False
    labels_only: ClassVar[bool] = True

    def recognises(self, path: Path) -> bool:
        """Whether it is a folder named masks that holds pictures."""
        return path.is_dir() and path.name.lower() == NAME and bool(pictures_in(path))

    def read(self, path: Path, request: Request) -> FileContent:
        """The label image.

        Raises:
            DataError: for masks of different sizes, of several values, or that overlap, as masks of different images do.
        """
        reject_selection(path, request, self.name)
        files = pictures_in(path)
        labels = np.zeros((), np.uint32)
        painted = 0
        for label, file in enumerate(files, start=1):
            mask = _mask(file)
            labels = np.zeros(mask.shape, np.uint32) if label == 1 else labels
            if mask.shape != labels.shape:
                rule = (
                    f"has {mask.shape} pixels, but {files[0].name} beside it has {labels.shape}; each file must be the mask of one object"
                )
                raise DataError("masks.sizes", rule, file=file, remedy="Name one label image, or the folder of all label images as labels.")
            labels[mask] = label
            painted += int(mask.sum())
        covered = painted - int(np.count_nonzero(labels))
        if covered > _MOST_OVERLAP * painted:
            rule = f"holds masks that overlap in {covered} of {painted} pixels, so that they are not of the objects of one image"
            raise DataError("masks.overlap", rule, file=path, remedy="Name one label image, or the folder of all label images as labels.")
        if covered:
            tell(
                MetadataWarning(
                    f"its masks overlap in {covered} pixels, which belong to the later ones", code="outlines.overlap", field="masks"
                )
            )
        return FileContent(labels, Axes("YX"))


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order."""
    suffixes = (*Raster.suffixes, *Tiff.suffixes)
    found = [entry for entry in folder.iterdir() if suffix_of(entry) in suffixes and entry.is_file() and not entry.name.startswith(".")]
    return sorted(found, key=lambda file: natural_key(file.name))


def picture_format(file: Path) -> Format:
    """The format of one of `pictures_in`."""
    return Tiff() if suffix_of(file) in Tiff.suffixes else Raster()


def _mask(file: Path) -> np.ndarray:
    values = np.asarray(picture_format(file).read(file, Request(labels=True)).data[...])
    if values.ndim == 3 and values.shape[-1] in (2, 3, 4):  # a grey mask that was saved in colours
        values = values[..., : 1 if values.shape[-1] == 2 else 3].max(axis=-1)
    if values.ndim != 2 or len(np.unique(values)) > 2:
        rule = f"is not the mask of one object: it has {len(np.unique(values))} values, shape {values.shape}"
        raise DataError("masks.values", rule, file=file, remedy="Name one label image, or the folder of all label images as labels.")
    return values > 0
