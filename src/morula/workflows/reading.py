"""How image files are read whose metadata are missing or wrong: the options that segment, measure and info share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from morula.core.errors import DataError, OptionError
from morula.core.image import Image
from morula.core.region import Region
from morula.core.voxel_size import VoxelSizeLike
from morula.data.components import connected
from morula.io.formats.base import Missing
from morula.io.lazy import take_region, take_time
from morula.io.read import SEVERAL, read, read_labels

_RANGE = re.compile(r"\s*(\d*)\s*:\s*(\d*)\s*")


@dataclass(frozen=True)
class Reading:
    """Arguments of `morula.read`; `None` for what the files state.

    `scene` is the number of an image in a file of several, counted from 0: a series of a TIFF, a scene of a CZI, an image of a LIF or of a
    Zarr folder, a position of an ND2. `level` is the level of a pyramid, 0 the finest. `region` is the part of the images that is used, in
    voxels of that level: ``z0:z1,y0:y1,x0:x1``, in 2D ``y0:y1,x0:x1``, without the voxels z1, y1, x1; a bound that is left out is the end.
    With `components`, labels are masks, of which each connected component is an object.

    Examples:
        >>> Reading(region="10:20, :, 5:50").box((40, 30, 60))
        Region(start=(10, 0, 5), stop=(20, 30, 50))
    """

    axes: str | None = None
    channel: int | None = None
    dataset: str | None = None
    scene: int | None = None
    voxel_size: VoxelSizeLike = None
    missing: Missing = "error"
    time: int | None = None
    level: int = 0
    region: str | None = None
    components: bool = False

    def __post_init__(self) -> None:
        if self.dataset is not None and self.scene is not None:
            rule = "is given together with dataset, which also names an image in the file"
            raise OptionError("reading.scene_and_dataset", rule, key="scene", value=self.scene, remedy="Give one of the two.")
        if self.missing not in ("error", "zeros"):
            raise OptionError(
                "reading.missing", "must be error or zeros", key="missing", value=self.missing, remedy="Write zeros, or leave it out."
            )

        if self.region is not None and not all(_RANGE.fullmatch(part) for part in self.region.split(",")):
            rule, remedy = "must be one range per axis, such as 0:64,100:612,100:612", "Write start:stop per axis, without the voxel stop."
            raise OptionError("reading.region", rule, key="region", value=self.region, remedy=remedy)

    def box(self, shape: Sequence[int]) -> Region:
        """The region in an image of this shape (Z)YX.

        Raises:
            OptionError: for another number of axes.
        """
        ranges = [_RANGE.fullmatch(part) for part in (self.region or ",".join(":" for _ in shape)).split(",")]
        if len(ranges) != len(shape):
            rule, remedy = f"has {len(ranges)} ranges but the image has {len(shape)} axes", "Give one range per axis (z,)y,x."
            raise OptionError("reading.region_axes", rule, key="region", value=self.region, remedy=remedy)
        bounds = [("", "") if part is None else part.groups() for part in ranges]
        return Region(
            tuple(int(start or 0) for start, _ in bounds), tuple(int(stop or n) for (_, stop), n in zip(bounds, shape, strict=True))
        )

    def _part(self, image: Image) -> Image:
        return image if self.region is None else take_region(image, self.box(image.spatial_shape))

    @property
    def name(self) -> str | None:
        """Name of the data set or scene."""
        return self.dataset if self.scene is None else str(self.scene)

    def open(self, path: str | Path) -> Image:
        """The image of a file. Errors as `morula.read`."""
        size, missing = self.voxel_size, self.missing
        image = read(
            path,
            axes=self.axes,
            channel=self.channel,
            time=self.time,
            dataset=self.name,
            level=self.level,
            voxel_size=size,
            missing=missing,
        )
        return self._part(image)

    def open_image_of(self, path: str | Path) -> Image:
        """The image that labels belong to, with their scene, time point, level and region; what is missing is treated alike.

        Axes, channel, data set and voxel size are those of the label file. The scene counts where the file holds several images.
        """
        try:
            image = read(path, missing=self.missing, time=self.time, level=self.level)
        except DataError as error:
            if self.scene is None or error.code not in SEVERAL:
                raise
            image = read(path, dataset=str(self.scene), missing=self.missing, time=self.time, level=self.level)
        return self._part(image)

    def open_labels(self, path: str | Path, shape: tuple[int, ...] | None = None) -> Image:
        """The label image of a file; `shape` is that of its image, for outlines. Errors as `morula.io.read.read_labels`.

        Labels of a single time point belong to the one that is taken of their image.
        """
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
        if self.time is not None and (shape is None or "T" in labels.axes):
            labels = take_time(labels, self.time)
        labels = self._part(labels)
        return connected(labels) if self.components else labels
