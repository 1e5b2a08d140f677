"""Metadata of OME-Zarr: read versions 0.1 to 0.5, write 0.5 (and 0.4 beside existing 0.4). https://ngff.openmicroscopy.org/0.5/"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from morula.core.axes import Axes
from morula.core.errors import DataError
from morula.core.voxel_size import VoxelSize

_KINDS = {"T": "time", "C": "channel"}
_UNITS = {
    "um": "micrometer",
    "nm": "nanometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "pm": "picometer",
    "Å": "angstrom",
    "inch": "inch",
}


@dataclass(frozen=True)
class Multiscale:
    """A pyramid: axes in the order of the arrays, and for each level (finest first) its path and one scale per axis."""

    axes: Axes
    units: tuple[str, ...]
    paths: tuple[str, ...]
    scales: tuple[tuple[float, ...] | None, ...]
    version: str

    def voxel_size(self, level: int) -> VoxelSize | None:
        """Voxel size at a level, in um or pixel; `None` where the file has none, or 1 pixel only."""
        scale = self.scales[level]
        if scale is None:
            return None
        of = {letter: (length, unit) for letter, length, unit in zip(self.axes, scale, self.units, strict=True) if letter in "ZYX"}
        lengths: dict[str, float] = {}
        physical = all(unit != "pixel" for _, unit in of.values())
        for letter, (length, unit) in of.items():
            if not 0 < length < float("inf"):
                return None
            lengths[letter.lower()] = VoxelSize(y=length, x=length, unit=unit).to("um").x if physical else length
        if not physical and all(length == 1 for length in lengths.values()):
            return None
        return VoxelSize(**lengths, unit="um" if physical else "pixel")


def parse(attributes: Mapping[str, Any], ndim: int | None = None) -> Multiscale | None:
    """The first multiscale in the attributes of a group, or `None`.

    Raises:
        DataError: for axes that are not among t, c, z, y, x.
    """
    ome = attributes.get("ome", attributes)
    try:
        first = ome["multiscales"][0]
    except (KeyError, IndexError, TypeError):
        return None
    version = str(ome.get("version", first.get("version", "0.4")))
    # axes were names only in 0.3, and fixed to tczyx before
    described = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in first.get("axes", "tczyx")]
    letters = "".join(_letter(axis) for axis in described)
    # a transformation of the multiscale applies after that of each level
    whole = _scale(first.get("coordinateTransformations"), len(letters)) or (1.0,) * len(letters)
    scales = []
    for dataset in first["datasets"]:
        scale = _scale(dataset.get("coordinateTransformations"), len(letters))
        scales.append(None if scale is None else tuple(a * b for a, b in zip(scale, whole, strict=True)))
    units = tuple(_unit(axis) for axis in described)
    return Multiscale(Axes(letters), units, tuple(str(dataset["path"]) for dataset in first["datasets"]), tuple(scales), version)


def _letter(axis: Mapping[str, Any]) -> str:
    name, kind = str(axis.get("name", "")).upper(), str(axis.get("type", ""))
    # the type decides, since a channel axis may have any name
    letter = {"time": "T", "channel": "C"}.get(kind, name)
    if letter not in ("T", "C", "Z", "Y", "X"):
        raise DataError(
            "ome_zarr.unknown_axis",
            "must be one of t, c, z, y and x",
            key="multiscales.axes",
            value=axis.get("name"),
            remedy="Rewrite the file with these axes.",
        )
    return letter


def _unit(axis: Mapping[str, Any]) -> str:
    try:
        return VoxelSize(1, 1, unit=str(axis.get("unit") or "pixel")).unit
    except ValueError:  # a unit of time, or one that is no length
        return "pixel"


def _scale(transformations: Any, ndim: int) -> tuple[float, ...] | None:
    for each in transformations or ():
        if each.get("type") == "scale" and len(each.get("scale", ())) == ndim:
            return tuple(float(length) for length in each["scale"])
    return None


def compose(
    name: str,
    axes: Axes,
    voxel_size: VoxelSize | None,
    factors: Sequence[Sequence[float]],
    *,
    labels: str | None = None,
    version: str = "0.5",
) -> dict[str, Any]:
    """Attributes of a multiscale group.

    Args:
        name: what viewers show.
        axes: axes of the arrays, in the order TCZYX.
        voxel_size: of level 0.
        factors: for each level, how much coarser each axis is than level 0.
        labels: for a label image the path of its image (``"../../"``), empty when it has none; `None` for an image.
        version: ``"0.5"`` or ``"0.4"``.
    """
    lengths = {} if voxel_size is None else {letter: getattr(voxel_size, letter.lower()) for letter in axes.spatial}
    unit = None if voxel_size is None else _UNITS.get(voxel_size.unit)
    described = []
    for letter in axes:
        axis = {"name": letter.lower(), "type": _KINDS.get(letter, "space")}
        described.append({**axis, "unit": unit} if unit and letter in "ZYX" else axis)
    datasets = []
    for level, factor in enumerate(factors):
        scale = [float(f * (lengths.get(letter) or 1.0)) for f, letter in zip(factor, axes, strict=True)]
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if level:  # the centre of a coarse voxel is between the centres of the voxels that it covers
            shift = [(f - 1) / 2 * (lengths.get(letter) or 1.0) for f, letter in zip(factor, axes, strict=True)]
            steps.append({"type": "translation", "translation": shift})
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    multiscale: dict[str, Any] = {"name": name, "axes": described, "datasets": datasets, "type": "mean" if labels is None else "nearest"}
    ome: dict[str, Any] = {"multiscales": [multiscale]}
    if labels is not None:
        ome["image-label"] = {"source": {"image": labels}} if labels else {}
    if version == "0.4":
        multiscale["version"] = "0.4"
        if labels is not None:
            ome["image-label"]["version"] = "0.4"
        return ome
    return {"ome": {"version": "0.5", **ome}}


def is_label(attributes: Mapping[str, Any]) -> bool:
    """Whether the attributes of a group declare a label image."""
    return "image-label" in attributes.get("ome", attributes)


def label_names(attributes: Mapping[str, Any]) -> list[str]:
    """Label images that the attributes of a ``labels`` group list."""
    return [str(name) for name in attributes.get("ome", attributes).get("labels", ())]
