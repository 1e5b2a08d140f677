"""The physical size of a pixel or voxel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TypeAlias

from morula.core.errors import OptionError

_METRES = {
    "nm": 1e-9, "um": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0, "pm": 1e-12, "Å": 1e-10, "inch": 0.0254, "pixel": None,
    "fm": 1e-15, "dm": 0.1, "km": 1e3, "thou": 2.54e-5, "pt": 0.0254 / 72, "ft": 0.3048, "yd": 0.9144,
}  # fmt: skip
_PREFIXES = {
    "femto": "fm", "pico": "pm", "nano": "nm", "micro": "um", "mikro": "um", "milli": "mm", "centi": "cm", "zenti": "cm",
    "deci": "dm", "dezi": "dm", "kilo": "km", "": "m",
}  # fmt: skip
_SPELLINGS = {
    **{f"{prefix}{metre}": unit for prefix, unit in _PREFIXES.items() for metre in ("meter", "metre", "meters", "metres")},
    "micron": "um", "microns": "um", "µm": "um", "μm": "um", "\\u00b5m": "um", "å": "Å", "\u212b": "Å",
    "angstrom": "Å", "angstroms": "Å", "ångström": "Å", "ångströms": "Å", "inches": "inch", "in": "inch", "px": "pixel",
    "foot": "ft", "feet": "ft", "yard": "yd", "yards": "yd", "point": "pt", "points": "pt",
    "pixels": "pixel", "voxel": "pixel", "voxels": "pixel", "": "pixel",
}  # fmt: skip
"""Units by their spellings in lower case, as programs and users write them."""


@dataclass(frozen=True)
class VoxelSize:
    """Edge lengths of a voxel in `unit`; `z` is `None` in 2D.

    Units are ``um`` (default), ``fm``, ``pm``, ``Å``, ``nm``, ``mm``, ``cm``, ``dm``, ``m``, ``km``, ``thou``, ``pt``, ``inch``, ``ft``,
    ``yd`` and ``pixel`` (physical size unknown); common spellings are accepted.

    Examples:
        >>> VoxelSize(y=0.2, x=0.2, z=1.0).spacing(3)
        (1.0, 0.2, 0.2)
        >>> VoxelSize(y=200, x=200, unit="nanometer").to("um")
        VoxelSize(y=0.2, x=0.2, z=None, unit='um')

    Raises:
        OptionError: for a length that is not positive and finite, or an unknown unit.
    """

    y: float
    x: float
    z: float | None = None
    unit: str = "um"

    def __post_init__(self) -> None:
        for axis in "zyx":
            length = getattr(self, axis)
            if length is not None and not (isinstance(length, Real) and math.isfinite(length) and float(length) > 0):
                raise OptionError(
                    "voxel_size.not_positive",
                    "lengths must be positive and finite",
                    key=f"voxel_size.{axis}",
                    value=length,
                    remedy="Correct it, or leave the voxel size out.",
                )
        unit = self.known_unit(str(self.unit))
        if unit is None:
            raise OptionError("voxel_size.unknown_unit", f"must be one of {', '.join(_METRES)}", key="voxel_size.unit", value=self.unit)
        object.__setattr__(self, "unit", unit)

    @staticmethod
    def known_unit(text: str) -> str | None:
        """The unit that a spelling stands for, `None` where it is none.

        Examples:
            >>> VoxelSize.known_unit("Microns"), VoxelSize.known_unit("sec")
            ('um', None)
        """
        unit = _SPELLINGS.get(text.strip().lower(), text)
        return unit if unit in _METRES else None

    def spacing(self, ndim: int) -> tuple[float, ...]:
        """Edge lengths in array order: (y, x) for `ndim` 2, (z, y, x) for `ndim` 3.

        Raises:
            OptionError: for `ndim` 3 when z is unknown.
        """
        if ndim == 2:
            return (self.y, self.x)
        if self.z is None:
            raise OptionError(
                "voxel_size.missing_z", "has no z but the image is 3D", key="voxel_size", value=self.asdict(), remedy="Give z as well."
            )
        return (self.z, self.y, self.x)

    def to(self, unit: str) -> VoxelSize:
        """The same size in another unit.

        Raises:
            OptionError: for an unknown unit, or between pixels and a physical unit.
        """
        target = VoxelSize(1, 1, unit=unit).unit
        if target == self.unit:
            return self
        old, new = _METRES[self.unit], _METRES[target]
        if old is None or new is None:
            raise OptionError(
                "voxel_size.unknown",
                f"a size in {self.unit} cannot be expressed in {target}",
                key="voxel_size",
                value=self.asdict(),
                remedy="Give the physical voxel size.",
            )
        factor = old / new
        return VoxelSize(
            y=_scaled(self.y, factor), x=_scaled(self.x, factor), z=None if self.z is None else _scaled(self.z, factor), unit=target
        )

    def asdict(self) -> dict[str, float | str]:
        """Mapping for JSON and YAML: ``{z, y, x, unit}``, in 2D without z."""
        lengths = {} if self.z is None else {"z": self.z}
        return {**lengths, "y": self.y, "x": self.x, "unit": self.unit}

    @classmethod
    def of(cls, value: VoxelSizeLike, ndim: int) -> VoxelSize:
        """Voxel size from any of its spellings.

        Args:
            value: a number, a sequence in array order, a mapping with the keys z, y, x and unit, or a `VoxelSize`. Lengths without a unit
                are in micrometres. `None` gives 1 pixel.
            ndim: 2 or 3.

        Raises:
            OptionError: for unknown keys, or a number of lengths that differs from `ndim`.
        """
        if value is None:
            return cls(y=1.0, x=1.0, z=1.0 if ndim == 3 else None, unit="pixel")
        if isinstance(value, VoxelSize):
            return value
        if isinstance(value, Mapping):
            unknown = set(value) - {"z", "y", "x", "unit"}
            if unknown or not {"y", "x"} <= set(value):
                raise OptionError(
                    "voxel_size.keys", "must have the keys z (in 3D), y, x and optionally unit", key="voxel_size", value=dict(value)
                )
            return cls(**dict(value))  # type: ignore[arg-type]
        lengths = [float(value)] * ndim if isinstance(value, int | float) else [float(length) for length in value]
        if len(lengths) != ndim:
            raise OptionError(
                "voxel_size.count", f"has {len(lengths)} lengths but the image has {ndim} dimensions", key="voxel_size", value=value
            )
        return cls(y=lengths[-2], x=lengths[-1], z=lengths[0] if ndim == 3 else None)


VoxelSizeLike: TypeAlias = VoxelSize | Mapping[str, float | str] | Sequence[float] | float | None


def _scaled(length: float, factor: float) -> float:
    return float(f"{length * factor:.12g}")  # 200 nm is 0.2 um, not 0.20000000000000004


def spacing_of(voxel_size: VoxelSizeLike, ndim: int) -> tuple[float, ...]:
    """Voxel edge lengths in array order from any spelling of a voxel size; ones when it is `None`.

    Examples:
        >>> spacing_of(None, 3), spacing_of([2, 1, 1], 3)
        ((1.0, 1.0, 1.0), (2.0, 1.0, 1.0))
    """
    return VoxelSize.of(voxel_size, ndim).spacing(ndim)


def lengths(text: str) -> list[float]:
    """Edge lengths in a text such as ``1.75,0.8,0.8``.

    Examples:
        >>> lengths("1.75,0.8,0.8")
        [1.75, 0.8, 0.8]
    """
    try:
        return [float(part) for part in text.replace(" ", "").split(",")]
    except ValueError:
        remedy = "Write the edge lengths in micrometres, for example 1.75,0.8,0.8."
        raise OptionError(
            "voxel_size.not_numbers", "must be numbers separated by commas", key="voxel_size", value=text, remedy=remedy
        ) from None
