"""Metadata of OME-Zarr: read versions 0.1 to 0.5, write 0.5 (and 0.4 beside existing 0.4). https://ngff.openmicroscopy.org/0.5/"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from morula.core.axes import Axes
from morula.core.errors import DataError
from morula.core.voxel_size import VoxelSize
from morula.io.metadata import ignore_field

_KINDS = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
"""Types of axes by their letter."""
_UNITS = {
    "um": "micrometer",
    "nm": "nanometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "pm": "picometer",
    "Å": "angstrom",
    "inch": "inch",
    "fm": "femtometer",
    "dm": "decimeter",
    "km": "kilometer",
    "ft": "foot",
    "yd": "yard",
}


@dataclass(frozen=True)
class Multiscale:
    """A pyramid: axes in the order of the arrays, and for each level (finest first) its path, and one scale and translation per axis."""

    axes: Axes
    units: tuple[str, ...]
    paths: tuple[str, ...]
    scales: tuple[tuple[float, ...] | None, ...]
    translations: tuple[tuple[float, ...], ...]
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

    def origin(self, level: int) -> tuple[float, ...] | None:
        """Place of the first voxel (Z)YX at a level, in the unit of its voxel size; `None` for the origin of all axes."""
        shift = self.translations[level]
        size = self.voxel_size(level)
        factor = 1.0 if size is None or size.unit == "pixel" else VoxelSize(1, 1, unit=self.units[-1]).to("um").x
        places = tuple(step * factor for step, letter in zip(shift, self.axes, strict=True) if letter in "ZYX")
        return places if any(places) else None


def ome_of(attributes: object) -> Mapping[str, Any]:
    """The OME metadata in the attributes of a node: below ``ome`` since version 0.5, at the top before; empty where they are no mapping."""
    found = attributes.get("ome", attributes) if isinstance(attributes, Mapping) else {}
    if isinstance(found, Mapping):
        return found
    ignore_field("ome", found, "must be a mapping")
    return {}


def parse(attributes: object, ndim: int | None = None) -> Multiscale | None:
    """The first multiscale in the attributes of a group, or `None` where no level of it is named.

    Other programs write these fields in many ways. Every field that breaks its rule is ignored with a `MetadataWarning`, as the pixels are
    readable without it: invalid axes are replaced by those that the number of dimensions suggests, an invalid scale by none.

    Args:
        attributes: of the group.
        ndim: number of dimensions of the arrays, where it is known.

    Raises:
        DataError: for a level outside of the group.
    """
    ome = ome_of(attributes)
    first = _first_multiscale(ome)
    datasets = [] if first is None else _datasets(first.get("datasets"))
    if first is None or not datasets:
        return None
    described = _described(first.get("axes"), ndim)
    letters = "".join(str(axis["letter"]) for axis in described)
    whole = _scale(first.get("coordinateTransformations"), len(letters)) or (1.0,) * len(letters)
    beyond = _translation(first.get("coordinateTransformations"), len(letters))
    scales: list[tuple[float, ...] | None] = []
    translations = []
    for dataset in datasets:
        scale = _scale(dataset.get("coordinateTransformations"), len(letters))
        scales.append(None if scale is None else tuple(a * b for a, b in zip(scale, whole, strict=True)))
        own = _translation(dataset.get("coordinateTransformations"), len(letters))
        translations.append(tuple(a * b + c for a, b, c in zip(own, whole, beyond, strict=True)))
    units = tuple(_unit(axis) for axis in described)
    version = str(ome.get("version", first.get("version", "0.4")))
    return Multiscale(
        Axes(letters), units, tuple(str(dataset["path"]) for dataset in datasets), tuple(scales), tuple(translations), version
    )


def level_paths(attributes: object) -> list[str]:
    """Paths of the levels, finest first; none for a group that is no multiscale image. Errors as `parse`."""
    first = _first_multiscale(ome_of(attributes))
    return [] if first is None else [str(dataset["path"]) for dataset in _datasets(first.get("datasets"))]


def _first_multiscale(ome: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found = ome.get("multiscales")
    first = found[0] if isinstance(found, list) and found else None
    if isinstance(first, Mapping):
        return first
    if found is not None:
        ignore_field("multiscales", found, "must be a list of mappings")
    return None


def _datasets(found: object) -> list[Mapping[str, Any]]:
    """The levels that name a path."""
    if not isinstance(found, list):
        ignore_field("multiscales.datasets", found, "must be a list")
        return []
    datasets = []
    for dataset in found:
        path = dataset.get("path") if isinstance(dataset, Mapping) else None
        if not isinstance(path, str | int) or isinstance(path, bool) or path == "":
            ignore_field("multiscales.datasets", dataset, "must name a path")
            continue
        if not _is_inside(str(path)):
            raise DataError(
                "ome_zarr.path_outside",
                "must be a folder in the image",
                key="multiscales.datasets.path",
                value=path,
                remedy="Correct the metadata; Morula reads nothing outside of the image.",
            )
        datasets.append(dataset)
    return datasets


def _described(found: object, ndim: int | None) -> list[Mapping[str, Any]]:
    """The axes, each with its ``letter``. Versions 0.1 and 0.2 have no axes: theirs are always t, c, z, y, x."""
    n = 5 if ndim is None else ndim
    usual: list[Mapping[str, Any]] = [{"letter": letter} for letter in "TCZYX"[-n:]]
    if found is None:
        return usual
    described: list[Mapping[str, Any]] = []
    for axis in found if isinstance(found, list | tuple) else ():
        fields = axis if isinstance(axis, Mapping) else {"name": axis}
        described.append({**fields, "letter": _letter(fields.get("type"), str(fields.get("name", "")).upper())})
    letters = [str(axis["letter"]) for axis in described]
    # X and Y are needed, and nothing may occur twice: otherwise a dimension has no meaning
    if (
        set(letters) - set("TCZYX")
        or len(set(letters)) != len(letters)
        or not {"Y", "X"} <= set(letters)
        or ndim not in (None, len(letters))
    ):
        ignore_field("multiscales.axes", found, f"must name each of the {n} dimensions t, c, z, y or x; taken as {'TCZYX'[-n:]}")
        return usual
    return described


def _letter(kind: object, name: str) -> str:
    """The letter of an axis: its name; where that is none of the usual ones, the type decides."""
    usual = _KINDS.get(name)
    if kind is not None and (not isinstance(kind, str) or (usual is not None and kind in _KINDS.values() and kind != usual)):
        ignore_field("multiscales.axes.type", kind, f"must be {usual or 'a text'} for the axis {name.lower()!r}")
    elif kind in ("time", "channel") and usual is None:
        return "T" if kind == "time" else "C"
    return name


def _unit(axis: Mapping[str, Any]) -> str:
    stated = axis.get("unit")
    if stated is None or axis["letter"] not in "ZYX":
        return "pixel"
    try:
        return VoxelSize(1, 1, unit=str(stated)).unit
    except ValueError:
        ignore_field("multiscales.axes.unit", stated, "is not a unit of length")
        return "pixel"


_TRANSFORMATIONS = ("scale", "translation", "identity")
"""Transformations that versions 0.4 and 0.5 define."""


def _scale(transformations: object, ndim: int) -> tuple[float, ...] | None:
    """The first scale that has one positive number per axis."""
    if transformations is None:
        return None
    steps = transformations if isinstance(transformations, list) else []
    scales = [step.get("scale") for step in steps if isinstance(step, Mapping) and step.get("type") == "scale"]
    for scale in scales:
        if isinstance(scale, list) and len(scale) == ndim and all(_is_length(length) for length in scale):
            return tuple(float(length) for length in scale)
    others = [kind for kind in (step.get("type") if isinstance(step, Mapping) else step for step in steps) if kind not in _TRANSFORMATIONS]
    if others:
        ignore_field("coordinateTransformations.type", others[0], f"must be one of {', '.join(_TRANSFORMATIONS)}")
    if scales or not isinstance(transformations, list):
        shown = scales[0] if scales else transformations
        ignore_field("coordinateTransformations.scale", shown, f"must be a list of {ndim} positive numbers")
    return None


def _translation(transformations: object, ndim: int) -> tuple[float, ...]:
    """The first translation that has one number per axis; zeros where there is none."""
    for step in transformations if isinstance(transformations, list) else []:
        shift = step.get("translation") if isinstance(step, Mapping) and step.get("type") == "translation" else None
        if shift is None:
            continue
        if isinstance(shift, list) and len(shift) == ndim and all(_is_number(place) for place in shift):
            return tuple(float(place) for place in shift)
        ignore_field("coordinateTransformations.translation", shift, f"must be a list of {ndim} numbers")
    return (0.0,) * ndim


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_length(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def compose(
    name: str,
    axes: Axes,
    voxel_size: VoxelSize | None,
    factors: Sequence[Sequence[float]],
    *,
    labels: str | None = None,
    version: str = "0.5",
    origin: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Attributes of a multiscale group.

    Args:
        name: what viewers show.
        axes: axes of the arrays, in the order TCZYX.
        voxel_size: of level 0.
        factors: for each level, how much coarser each axis is than level 0.
        labels: for a label image the path of its image (``"../../"``), empty when it has none; `None` for an image.
        version: ``"0.5"`` or ``"0.4"``.
        origin: place of the first voxel of level 0 along the spatial axes, in the unit of the voxel size.
    """
    if voxel_size is not None and voxel_size.unit not in (*_UNITS, "pixel"):  # a unit that NGFF has no name for
        micrometres = voxel_size.to("um")
        origin = None if origin is None else [place * micrometres.x / voxel_size.x for place in origin]
        voxel_size = micrometres
    places = dict(zip(axes.spatial_axes, origin or (), strict=False))
    lengths = {} if voxel_size is None else {letter: getattr(voxel_size, letter.lower()) for letter in axes.spatial}
    unit = None if voxel_size is None else _UNITS.get(voxel_size.unit)
    described = []
    for letter in axes:
        axis = {"name": letter.lower(), "type": _KINDS[letter]}
        described.append({**axis, "unit": unit} if unit and letter in "ZYX" else axis)
    datasets = []
    for level, factor in enumerate(factors):
        scale = [float(f * (lengths.get(letter) or 1.0)) for f, letter in zip(factor, axes, strict=True)]
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        # the centre of a coarse voxel is between the centres of the voxels that it covers
        shift = [(f - 1) / 2 * (lengths.get(letter) or 1.0) + places.get(letter, 0.0) for f, letter in zip(factor, axes, strict=True)]
        if level or any(shift):
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


def is_label(attributes: object) -> bool:
    """Whether the attributes of a group declare a label image."""
    return "image-label" in ome_of(attributes)


def label_names(attributes: object) -> list[str]:
    """Label images that the attributes of a ``labels`` group list; none where the list is invalid."""
    found = ome_of(attributes).get("labels", [])
    if not isinstance(found, list) or not all(isinstance(name, str) and _is_inside(name) for name in found):
        ignore_field("labels", found, "must be a list of names of folders in the image")
        return []
    return list(found)


def _is_inside(path: str) -> bool:
    return not path.startswith("/") and ".." not in path.replace("\\", "/").split("/")


def field_paths(attributes: object) -> list[str]:
    """Paths of the wells of a plate, or of the fields of a well, in the order of the metadata; none for other groups."""
    ome = ome_of(attributes)
    for kind, part in (("plate", "wells"), ("well", "images")):
        described = ome.get(kind)
        if described is None:
            continue
        entries = described.get(part) if isinstance(described, Mapping) else None
        paths = [entry.get("path") for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
        if not paths or not all(isinstance(path, str) and _is_inside(path) for path in paths):
            ignore_field(f"{kind}.{part}", entries, "must be a list of mappings with a path")
            return []
        return [str(path) for path in paths]
    return []
