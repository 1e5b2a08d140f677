"""The options of `morula export` for models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from morula import workflows
from morula.core.errors import OptionError

if TYPE_CHECKING:
    from morula.core.events import Event

MODEL_FORMATS = {"bioimageio": ".zip", "torchscript": ".pt", "onnx": ".onnx"}
"""Formats of models for `--to`, with the suffixes of their files."""


@dataclass(frozen=True)
class PackageOptions:
    """What a package of a model states."""

    bioimageio: Annotated[
        bool, typer.Option("--bioimageio", help="Write a model as a package of the BioImage Model Zoo; the same as --to bioimageio.")
    ] = False
    name: Annotated[str | None, typer.Option("--name", help="Name of the model in its package.", show_default="that of the file")] = None
    author: Annotated[list[str], typer.Option("--author", help="Author of the model, for its package. Can be repeated.")] = field(
        default_factory=list
    )
    licence: Annotated[
        str | None, typer.Option("--licence", help="Licence of the model (SPDX), for its package, for example CC-BY-4.0.")
    ] = None


def model_format(to: Sequence[str] | None, *, bioimageio: bool) -> str | None:
    """The format of a model that is asked for; `None` where labels are.

    Raises:
        OptionError: for several formats, or none.

    Examples:
        >>> model_format(None, bioimageio=True), model_format(["onnx"], bioimageio=False), model_format(["rois"], bioimageio=False)
        ('bioimageio', 'onnx', None)
    """
    names = [name.strip() for text in to or [] for name in text.split(",") if name.strip()]
    names += ["bioimageio"] if bioimageio and "bioimageio" not in names else []
    if not names:
        remedy = "Name one of rois, geojson, coco, preview, parquet for labels, or bioimageio, torchscript, onnx for a model."
        raise OptionError("export.nothing", "names no format", key="to", remedy=remedy)
    found = [name for name in names if name in MODEL_FORMATS]
    if found and len(names) > 1:
        rule = "names several formats, and a model is written in one"
        raise OptionError("export.one_format", rule, key="to", value=names, remedy="Call the command once for each.")
    return found[0] if found else None


def written_model(model: str, kind: str, output: Path | None, package: PackageOptions, *, overwrite: bool) -> Iterator[Event]:
    """Write a model in one of `MODEL_FORMATS`; by default into ``MODEL.zip`` (or ``.pt``, ``.onnx``) in the current folder."""
    suffix = MODEL_FORMATS[kind]
    place = output or Path(f"{Path(model).resolve().stem}{suffix}")
    if place.suffix.lower() != suffix:
        rule = f"must end in {suffix} for {kind}"
        raise OptionError("export.suffix", rule, key="output", value=str(place), remedy=f"Write -o {place.stem}{suffix}.")
    return workflows.export_model.export_model(
        model, place, name=package.name, authors=package.author, licence=package.licence, overwrite=overwrite
    )
