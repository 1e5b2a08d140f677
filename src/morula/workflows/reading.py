"""How image files are read whose metadata are missing or wrong: the options that segment, measure and info share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from morula.core.errors import OptionError
from morula.core.image import Image
from morula.core.voxel_size import VoxelSizeLike
from morula.io.formats.base import Missing
from morula.io.lazy import take_time
from morula.io.read import read, read_labels


@dataclass(frozen=True)
class Reading:
    """Arguments of `morula.read`; `None` for what the files state.

    `scene` is the number of an image in a file of several, counted from 0: a series of a TIFF, a scene of a CZI, an image of a LIF or of a
    Zarr folder, a position of an ND2. `level` is the level of a pyramid, 0 the finest.
    """

    axes: str | None = None
    channel: int | None = None
    dataset: str | None = None
    scene: int | None = None
    voxel_size: VoxelSizeLike = None
    missing: Missing = "error"
    time: int | None = None
    level: int = 0

    def __post_init__(self) -> None:
        if self.dataset is not None and self.scene is not None:
            rule = "is given together with dataset, which also names an image in the file"
            raise OptionError("reading.scene_and_dataset", rule, key="scene", value=self.scene, remedy="Give one of the two.")
        if self.missing not in ("error", "zeros"):
            raise OptionError(
                "reading.missing", "must be error or zeros", key="missing", value=self.missing, remedy="Write zeros, or leave it out."
            )

    @property
    def name(self) -> str | None:
        """Name of the data set or scene."""
        return self.dataset if self.scene is None else str(self.scene)

    def open(self, path: str | Path) -> Image:
        """The image of a file. Errors as `morula.read`."""
        size, missing = self.voxel_size, self.missing
        return read(
            path,
            axes=self.axes,
            channel=self.channel,
            time=self.time,
            dataset=self.name,
            level=self.level,
            voxel_size=size,
            missing=missing,
        )

    def open_image_of(self, path: str | Path) -> Image:
        """The image that labels belong to: what is said of the label file does not hold for it, but what is missing is treated alike."""
        return read(path, missing=self.missing, time=self.time, level=self.level)

    def open_labels(self, path: str | Path, shape: tuple[int, ...] | None = None) -> Image:
        """The label image of a file; `shape` is that of its image, for outlines. Errors as `morula.io.read.read_labels`."""
        size, missing = self.voxel_size, self.missing
        labels = read_labels(
            path,
            axes=self.axes,
            channel=self.channel,
            dataset=self.name,
            level=self.level,
            voxel_size=size,
            missing=missing,
            shape=shape,
        )
        return labels if self.time is None else take_time(labels, self.time)
