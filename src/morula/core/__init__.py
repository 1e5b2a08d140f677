"""Axes, voxel sizes, regions, orientations, families, events and errors: the vocabulary of all other packages."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from morula.core.axes import Axes as Axes
    from morula.core.errors import DataError as DataError
    from morula.core.errors import FileReadError as FileReadError
    from morula.core.errors import FileWriteError as FileWriteError
    from morula.core.errors import JobError as JobError
    from morula.core.errors import MissingExtraError as MissingExtraError
    from morula.core.errors import MissingFileError as MissingFileError
    from morula.core.errors import ModelError as ModelError
    from morula.core.errors import MorulaError as MorulaError
    from morula.core.errors import OptionError as OptionError
    from morula.core.errors import TrainingError as TrainingError
    from morula.core.errors import UnknownNameError as UnknownNameError
    from morula.core.family import Family as Family
    from morula.core.image import Image as Image
    from morula.core.orientation import Orientation as Orientation
    from morula.core.region import Region as Region
    from morula.core.voxel_size import VoxelSize as VoxelSize
    from morula.core.voxel_size import spacing_of as spacing_of

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

# images need NumPy, which a command line that only prints its help does not
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "axes": ["Axes"],
        "errors": [
            "DataError",
            "FileReadError",
            "FileWriteError",
            "JobError",
            "MissingExtraError",
            "MissingFileError",
            "ModelError",
            "MorulaError",
            "OptionError",
            "TrainingError",
            "UnknownNameError",
        ],
        "family": ["Family"],
        "image": ["Image"],
        "orientation": ["Orientation"],
        "region": ["Region"],
        "voxel_size": ["VoxelSize", "spacing_of"],
    },
)
