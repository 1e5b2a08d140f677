"""Files of further microscopes through the optional package bioio (BSD) and its plugins, one per kind of file; read only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from morula.core.errors import MissingExtraError
from morula.core.voxel_size import VoxelSize
from morula.io.formats.base import FileContent, Format, Request, lengths_to_voxel_size, pick_level, without_warnings
from morula.io.formats.planes import PlaneArray, Planes, choose_scene, content

if TYPE_CHECKING:
    from bioio import BioImage

_PLUGINS = {
    (".dv", ".r3d"): "bioio-dv",
    (".sld", ".sldy"): "bioio-sldy",
    (".oib", ".oif", ".vsi"): "bioio-bioformats",
}
"""The plugin to install for each kind of file, for the message. Any plugin of bioio that reads a file is used."""


class _BioioPlanes(Planes):
    """An open file. Colours are channels: the samples of a pixel are read together."""

    def __init__(self, path: Path, scene: str, level: int) -> None:
        image = _opened(path, scene, level)
        colours = "S" in image.dims.order
        self._values = image.get_image_dask_data("TCZYXS" if colours else "TCZYX")
        self._samples = self._values.shape[-1] if colours else 1

    def plane(self, t: int, c: int, z: int, rows: slice, columns: slice) -> np.ndarray:
        """Values of a part of a plane."""
        values = np.asarray(self._values[t, c // self._samples, z, rows, columns])
        return values[..., c % self._samples] if values.ndim == 3 else values

    def close(self) -> None:
        """Nothing stays open: the plugins open the file for each part that is read."""


class BioioArray(PlaneArray):
    """One scene of a file at a pyramid level."""

    def __init__(self, shape: Sequence[int], dtype: np.dtype, path: Path, scene: str, level: int) -> None:
        super().__init__(shape, dtype, path)
        self.scene, self.level = scene, level

    def _planes(self) -> Planes:
        return _BioioPlanes(self.path, self.scene, self.level)


class Bioio(Format):
    """Scenes have numbers from 0 and names; without a choice the only one."""

    name: ClassVar[str] = "bioio"
    suffixes: ClassVar[tuple[str, ...]] = tuple(suffix for group in _PLUGINS for suffix in group)
    writes: ClassVar[bool] = False

    def read(self, path: Path, request: Request) -> FileContent:
        """Open a scene."""
        image = _opened(path)
        scene = image.scenes[choose_scene(path, dict.fromkeys(image.scenes, ""), request)]
        image.set_scene(scene)
        level = pick_level(path, request.level, len(image.resolution_levels))
        image.set_resolution_level(level)
        sizes = dict(image.dims.items())
        shape = (sizes["T"], sizes["C"] * sizes.get("S", 1), sizes["Z"], sizes["Y"], sizes["X"])
        return content(path, BioioArray(shape, image.dtype, path, scene, level), "TCZYX", _voxel_size(image, volume=sizes["Z"] > 1))


def _opened(path: Path, scene: str | None = None, level: int = 0) -> BioImage:
    """The file, at a scene and level.

    Raises:
        MissingExtraError: where bioio or the plugin for this kind of file is not installed.
    """
    try:
        from bioio import BioImage
        from bioio_base.exceptions import UnsupportedFileFormatError
    except ImportError:
        raise _missing(path) from None
    with without_warnings():
        try:
            image = BioImage(path)
        except UnsupportedFileFormatError:
            raise _missing(path) from None
        if scene is not None:
            image.set_scene(scene)
            image.set_resolution_level(level)
    return image


def _missing(path: Path) -> MissingExtraError:
    plugin = next(plugin for suffixes, plugin in _PLUGINS.items() if path.suffix.lower() in suffixes)
    rule = f"can be read by no installed plugin of bioio; either {plugin} is not installed, or the file is damaged"
    remedy = f"Install bioio with: pip install bioio {plugin}; or export the file as OME-TIFF."
    return MissingExtraError("extra.bioio", rule, file=path, remedy=remedy)


def _voxel_size(image: BioImage, *, volume: bool) -> VoxelSize | None:
    """Edge lengths, which bioio gives in um."""
    sizes, letters = image.physical_pixel_sizes, "ZYX" if volume else "YX"
    lengths = [getattr(sizes, letter) for letter in letters]
    return None if None in lengths else lengths_to_voxel_size(lengths, letters, "um")
