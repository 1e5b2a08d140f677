"""What Morula reads of each field of each format: one table, which a test walks and from which the documentation is generated.

A row writes a small file with one field and states what reading it gives, as a text: ``axes``, ``voxel size``, ``shape``, ``warning`` with
the name of the field that is ignored, or ``error`` with its code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import PIL.Image
import tifffile
import zarr

from morula.core.errors import MorulaError
from morula.io.metadata import collected
from morula.io.read import read
from morula.io.write import write
from morula.testing.bad_images import png

VOLUME = np.arange(4 * 6 * 8, dtype=np.uint8).reshape(4, 6, 8)
SIZE = [2.0, 0.5, 0.5]


@dataclass(frozen=True)
class Row:
    """A field of a format: what writes a file with it, and what is read of it."""

    format: str
    field: str
    suffix: str
    write: Callable[[Path], object]
    gives: str


def found(path: Path) -> dict[str, str]:
    """What reading a file gives, by the words that `Row.gives` begins with."""
    with collected() as warnings:
        try:
            image = read(path)
            np.asarray(image)
        except MorulaError as error:
            return {"error": error.code}
    size = image.voxel_size
    shown = "unknown" if size is None else " x ".join(f"{length:g}" for length in image.spacing) + f" {size.unit}"
    facts = {"axes": str(image.axes), "shape": " x ".join(map(str, image.shape)), "voxel size": shown}
    return facts | {"warning": ", ".join(sorted({warning.field for warning in warnings}))}


def _ome(path: Path, fields: Mapping[str, str] | None = None) -> None:
    """An OME-TIFF with these attributes of its Pixels."""
    tifffile.imwrite(path, VOLUME, ome=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as tif:
        xml = str(tif.ome_metadata)
    for name, value in (fields or {}).items():
        start = xml.find(f' {name}="')
        xml = xml if start < 0 else xml[:start] + xml[xml.index('"', start + len(name) + 3) + 1 :]
        xml = xml.replace("<Pixels ", f'<Pixels {name}="{value}" ', 1)
    tifffile.imwrite(path, VOLUME, description=xml.encode(), metadata=None, photometric="minisblack")


def _sizes(x: str, y: str, z: str, **units: str) -> dict[str, str]:
    stated = {f"PhysicalSize{letter}Unit": unit for letter, unit in units.items()}
    return {"PhysicalSizeX": x, "PhysicalSizeY": y, "PhysicalSizeZ": z, **stated}


def _imagej(path: Path, **metadata: Any) -> None:
    tifffile.imwrite(path, VOLUME, imagej=True, resolution=(2, 2), metadata={"axes": "ZYX", **metadata})


def _hdf5(path: Path, attribute: str, value: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=VOLUME).attrs[attribute] = value


def _zarr(path: Path, *, names: list[str] | None = None, attributes: dict[str, Any] | None = None) -> None:
    array = zarr.create_array(str(path), shape=VOLUME.shape, dtype=VOLUME.dtype, dimension_names=names, attributes=attributes)
    array[:] = VOLUME


def _ngff(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """An OME-Zarr after a change of its multiscale."""
    write(path, VOLUME, axes="ZYX", voxel_size=SIZE)
    content = json.loads((path / "zarr.json").read_text("utf-8"))
    change(content["attributes"]["ome"]["multiscales"][0])
    (path / "zarr.json").write_text(json.dumps(content), "utf-8")


def _scales(multiscale: dict[str, Any], scale: object) -> None:
    for dataset in multiscale["datasets"]:
        dataset["coordinateTransformations"] = [{"type": "scale", "scale": scale}]


def _units(multiscale: dict[str, Any], unit: str) -> None:
    for axis in multiscale["axes"]:
        axis["unit"] = unit


def _nifti(path: Path, unit: str = "micron", affine: Any = None) -> None:
    image = nibabel.Nifti1Image(VOLUME.T, np.diag([0.5, 0.5, 2, 1.0]) if affine is None else affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)


def _damaged_png(path: Path) -> None:
    PIL.Image.fromarray(VOLUME[0]).save(path)
    content = path.read_bytes()
    place = content.index(b"IDAT") + 8
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


_OME = partial(Row, "OME-TIFF")
_IMAGEJ = partial(Row, "ImageJ TIFF")
_TIFF = partial(Row, "TIFF")
_HDF5 = partial(Row, "HDF5")
_ZARR = partial(Row, "Zarr")
_NGFF = partial(Row, "OME-Zarr")
_NIFTI = partial(Row, "NIfTI")
_PICTURE = partial(Row, "PNG, BMP, JPEG")

ROWS: tuple[Row, ...] = (
    _OME("DimensionOrder, SizeZ, SizeC, SizeT", ".ome.tif", _ome, "axes ZYX"),
    _OME("PhysicalSizeX, Y, Z in micrometres", ".ome.tif", partial(_ome, fields=_sizes("0.5", "0.5", "2")), "voxel size 2 x 0.5 x 0.5 um"),
    _OME(
        "a unit of its own for each axis",
        ".ome.tif",
        partial(_ome, fields=_sizes("500", "0.5", "0.002", X="nm", Y="µm", Z="mm")),
        "voxel size 2 x 0.5 x 0.5 um",
    ),
    _OME("a decimal comma", ".ome.tif", partial(_ome, fields=_sizes("0,5", "0,5", "2,0")), "voxel size 2 x 0.5 x 0.5 um"),
    _OME("an unknown unit", ".ome.tif", partial(_ome, fields=_sizes("1", "1", "1", X="stone")), "warning PhysicalSizeXUnit"),
    _OME("a size that is no number", ".ome.tif", partial(_ome, fields=_sizes("wide", "1", "1")), "warning PhysicalSizeX"),
    _OME("a size of 0", ".ome.tif", partial(_ome, fields=_sizes("1", "1", "0")), "warning PhysicalSizeZ"),
    _OME("planes that are missing", ".ome.tif", partial(_ome, fields={"SizeZ": "6"}), "error tiff.missing_planes"),
    _IMAGEJ("spacing, XResolution, unit", ".tif", partial(_imagej, spacing=2, unit="um"), "voxel size 2 x 0.5 x 0.5 um"),
    _IMAGEJ("spacing left out: 1 unit", ".tif", partial(_imagej, unit="um"), "voxel size 1 x 0.5 x 0.5 um"),
    _IMAGEJ("unit escaped, or in Greek or Latin-1", ".tif", partial(_imagej, spacing=2, unit="\\u00B5m"), "voxel size 2 x 0.5 x 0.5 um"),
    _IMAGEJ("negative spacing", ".tif", partial(_imagej, spacing=-2, unit="um"), "voxel size 2 x 0.5 x 0.5 um"),
    _IMAGEJ("spacing that is no number", ".tif", partial(_imagej, spacing="far", unit="um"), "warning spacing"),
    _IMAGEJ(
        "channels, slices, frames",
        ".tif",
        partial(tifffile.imwrite, data=np.zeros((2, 3, 8, 9), np.uint8), imagej=True, metadata={"axes": "ZCYX"}),
        "axes ZCYX",
    ),
    _TIFF(
        "ResolutionUnit and XResolution",
        ".tif",
        partial(tifffile.imwrite, data=VOLUME[0], resolution=(20000, 20000), resolutionunit=3),
        "voxel size 0.5 x 0.5 um",
    ),
    _TIFF(
        "a resolution for printers (72 dpi)",
        ".tif",
        partial(tifffile.imwrite, data=VOLUME[0], resolution=(72, 72), resolutionunit=2),
        "voxel size unknown",
    ),
    _TIFF("pages", ".tif", partial(tifffile.imwrite, data=VOLUME, photometric="minisblack"), "axes ZYX"),
    _TIFF("samples (RGB)", ".tif", partial(tifffile.imwrite, data=np.zeros((6, 8, 3), np.uint8), photometric="rgb"), "axes YXC"),
    _HDF5(
        "`element_size_um` or `resolution` (z, y, x)",
        ".h5",
        partial(_hdf5, attribute="element_size_um", value=SIZE),
        "voxel size 2 x 0.5 x 0.5 um",
    ),
    _HDF5(
        "`axistags`", ".h5", partial(_hdf5, attribute="axistags", value='{"axes": [{"key": "c"}, {"key": "y"}, {"key": "x"}]}'), "axes CYX"
    ),
    _HDF5("`DIMENSION_LABELS` or `axes`", ".h5", partial(_hdf5, attribute="axes", value=["c", "y", "x"]), "axes CYX"),
    _HDF5("`axistags` that are no JSON", ".h5", partial(_hdf5, attribute="axistags", value="{"), "warning axistags"),
    _ZARR("`dimension_names` of version 3", ".zarr", partial(_zarr, names=["c", "y", "x"]), "axes CYX"),
    _ZARR("`_ARRAY_DIMENSIONS`", ".zarr", partial(_zarr, attributes={"_ARRAY_DIMENSIONS": ["c", "y", "x"]}), "axes CYX"),
    _ZARR("`element_size_um`", ".zarr", partial(_zarr, attributes={"element_size_um": SIZE}), "voxel size 2 x 0.5 x 0.5 um"),
    _NGFF("`axes` and `scale`", ".ome.zarr", partial(_ngff, change=bool), "voxel size 2 x 0.5 x 0.5 um"),
    _NGFF(
        "units of length", ".ome.zarr", partial(_ngff, change=partial(_units, unit="nanometer")), "voxel size 0.002 x 0.0005 x 0.0005 um"
    ),
    _NGFF("an unknown unit", ".ome.zarr", partial(_ngff, change=partial(_units, unit="stone")), "warning multiscales.axes.unit"),
    _NGFF(
        "a type that contradicts the name of the axis",
        ".ome.zarr",
        partial(_ngff, change=lambda multiscale: multiscale["axes"][0].update(type="channel")),
        "warning multiscales.axes.type",
    ),
    _NGFF("axes left out", ".ome.zarr", partial(_ngff, change=lambda multiscale: multiscale.pop("axes")), "axes ZYX"),
    _NGFF(
        "a scale of words",
        ".ome.zarr",
        partial(_ngff, change=partial(_scales, scale=["a", "b", "c"])),
        "warning coordinateTransformations.scale",
    ),
    _NGFF(
        "a level outside of the image",
        ".ome.zarr",
        partial(_ngff, change=lambda multiscale: multiscale["datasets"][0].update(path="../a")),
        "error ome_zarr.path_outside",
    ),
    _NIFTI("`pixdim` and units", ".nii", _nifti, "voxel size 2 x 0.5 x 0.5 um"),
    _NIFTI("units of millimetres", ".nii.gz", partial(_nifti, unit="mm"), "voxel size 2000 x 500 x 500 um"),
    _NIFTI(
        "`sform` or `qform`: turned to RAS",
        ".nii",
        partial(_nifti, affine=np.array([[0, 0, 2, 0], [0, 0.5, 0, 0], [0.5, 0, 0, 0], [0, 0, 0, 1]])),
        "shape 8 x 6 x 4",
    ),
    _PICTURE(
        "dots per inch", ".png", lambda path: PIL.Image.fromarray(VOLUME[0]).save(path, dpi=(50800, 50800)), "voxel size 0.5 x 0.5 um"
    ),
    _PICTURE("colours", ".bmp", lambda path: PIL.Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(path), "axes YXC"),
    _PICTURE("checksums", ".png", _damaged_png, "error file.unreadable"),
    _PICTURE(
        "a size beyond 2^30 pixels",
        ".png",
        lambda path: path.write_bytes(png((b"IHDR", b"\x7f\xff\xff\xff" * 2 + b"\x08\0\0\0\0"), (b"IDAT", b""), (b"IEND", b""))),
        "error image.too_large",
    ),
    Row("NumPy", "shape (axes are guessed)", ".npy", lambda path: np.save(path, VOLUME), "axes ZYX"),
)
"""Every field that a test covers."""
