"""Axes, voxel sizes, regions, orientations, families, events and errors: the vocabulary of all other packages."""

from morula.core.axes import Axes
from morula.core.errors import (
    DataError,
    FileReadError,
    FileWriteError,
    JobError,
    MissingExtraError,
    MissingFileError,
    ModelError,
    MorulaError,
    OptionError,
    TrainingError,
    UnknownNameError,
)
from morula.core.family import Family
from morula.core.image import Image
from morula.core.orientation import Orientation
from morula.core.region import Region
from morula.core.voxel_size import VoxelSize, spacing_of

__all__ = [
    "Axes",
    "DataError",
    "Family",
    "FileReadError",
    "FileWriteError",
    "Image",
    "JobError",
    "MissingExtraError",
    "MissingFileError",
    "ModelError",
    "MorulaError",
    "OptionError",
    "Orientation",
    "Region",
    "TrainingError",
    "UnknownNameError",
    "VoxelSize",
    "spacing_of",
]
