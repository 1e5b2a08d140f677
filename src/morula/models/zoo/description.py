"""What Morula needs of a description of bioimage.io, of the versions 0.4 and 0.5 of the specification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from morula.core.errors import ModelError
from morula.models.zoo.archive import Package
from morula.models.zoo.processing import Step

MAX_CHANNELS = 4096
_UNSUPPORTED = "Predict with bioimageio.core, and make objects of the channels with `morula.decode`."
_LETTERS = {"b": "batch", "c": "channel", "z": "z", "y": "y", "x": "x"}
SAFE_WEIGHTS = ("torchscript", "onnx")
"""Formats of weights that hold no Python code, in the order in which they are preferred."""


@dataclass(frozen=True)
class Tensor:
    """Input or output. Its edges (Z)YX can be ``least + n * step``; `step` is 0 for fixed ones."""

    channels: tuple[str, ...]
    least: tuple[int, ...]
    step: tuple[int, ...]
    steps: tuple[Step, ...]
    spatial: str


@dataclass(frozen=True)
class Network:
    """Input, output and weights of a package."""

    image: Tensor
    output: Tensor
    weights: str
    source: str


def read_network(package: Package) -> Network:
    """The network that a package describes.

    Raises:
        ModelError: for several inputs or outputs, other axes than batch, channel and (Z)YX in this order, or weights that hold code only.
    """
    document = package.description
    inputs, outputs = (_tensors(document, key, package) for key in ("inputs", "outputs"))
    weights = document.get("weights")
    stated = weights if isinstance(weights, Mapping) else {}
    chosen = next((name for name in SAFE_WEIGHTS if isinstance(stated.get(name), Mapping)), None)
    if chosen is None:
        formats = ", ".join(map(str, stated)) or "none"
        rule = f"has weights of the formats {formats}; Morula runs {' and '.join(SAFE_WEIGHTS)}, which hold no code"
        remedy = "Convert them with `bioimageio add-weights`, in a place where you trust the package."
        raise ModelError("zoo.weights", rule, key="weights", file=package.path, remedy=remedy)
    return Network(_tensor(inputs, "inputs", package), _tensor(outputs, "outputs", package), chosen, str(stated[chosen].get("source")))


def _tensors(document: Mapping[str, Any], key: str, package: Package) -> Mapping[str, Any]:
    """The one input or output."""
    stated = document.get(key)
    if not isinstance(stated, list) or len(stated) != 1 or not isinstance(stated[0], Mapping):
        count = len(stated) if isinstance(stated, list) else 0
        raise ModelError("zoo.tensors", f"has {count} {key}; Morula runs models with one", key=key, file=package.path, remedy=_UNSUPPORTED)
    return stated[0]


def _tensor(stated: Mapping[str, Any], key: str, package: Package) -> Tensor:
    steps = stated.get("preprocessing" if key == "inputs" else "postprocessing") or []
    if not isinstance(steps, list) or not all(isinstance(step, Mapping) for step in steps):
        raise _damaged(f"{key}.processing", steps, package)
    axes = stated.get("axes")
    try:
        if isinstance(axes, str):
            names, channels, sizes = _axes_of_version_4(stated, key)
        elif isinstance(axes, list):
            names, channels, sizes = _axes_of_version_5(axes)
        else:
            raise ValueError("axes")
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise _damaged(f"{key}.axes", axes, package) from error
    if names not in ("batch channel y x", "batch channel z y x"):
        raise ModelError(
            "zoo.axes", "has axes in another order than batch, channel, (z), y, x", value=names, file=package.path, remedy=_UNSUPPORTED
        )
    if not 1 <= len(channels) <= MAX_CHANNELS or any(not 0 <= value <= 1 << 16 for size in sizes for value in size):
        raise _damaged(f"{key}.axes", sizes, package)
    least, step = (tuple(values) for values in zip(*sizes, strict=True))
    return Tensor(channels, least, step, tuple(_modern(step) for step in steps), names.replace("batch channel ", "").replace(" ", ""))


def _damaged(key: str, value: object, package: Package) -> ModelError:
    remedy = "Download the package again from its source."
    return ModelError("zoo.description", "does not follow the specification", key=key, value=value, file=package.path, remedy=remedy)


def _axes_of_version_5(axes: list[Any]) -> tuple[str, tuple[str, ...], list[tuple[int, int]]]:
    names: list[str] = []
    channels: tuple[str, ...] = ("",)
    sizes: list[tuple[int, int]] = []
    for axis in axes:
        kind = str(axis["type"])
        names.append(str(axis["id"]) if kind == "space" else kind)
        if kind == "channel":
            stated = axis.get("channel_names")
            channels = tuple(map(str, stated)) if isinstance(stated, list) else ("",) * int(axis.get("size", 1))
        elif kind == "space":
            size = axis["size"]
            sizes.append((size, 0) if isinstance(size, int) else (int(size.get("min", 1)), int(size.get("step", 1))))
    return " ".join(names), channels, sizes


def _axes_of_version_4(stated: Mapping[str, Any], key: str) -> tuple[str, tuple[str, ...], list[tuple[int, int]]]:
    letters, shape = str(stated["axes"]), stated["shape"]
    names = " ".join(_LETTERS.get(letter, letter) for letter in letters)
    if isinstance(shape, list):
        least, step = [int(edge) for edge in shape], [0] * len(shape)
    elif key == "inputs":
        least, step = [int(edge) for edge in shape["min"]], [int(edge) for edge in shape["step"]]
    else:  # as large as the input: `offset` is half of what is added
        least, step = [int(2 * offset) for offset in shape["offset"]], [1] * len(letters)
    sizes = [(abs(least[place]), step[place]) for place, letter in enumerate(letters) if letter in "zyx"]
    return names, ("",) * abs(least[letters.index("c")]), sizes


def _modern(step: Mapping[str, Any]) -> Step:
    """A processing step in the words of version 0.5.

    Examples:
        >>> _modern({"name": "zero_mean_unit_variance", "kwargs": {"axes": "yx", "mode": "per_sample"}})
        {'id': 'zero_mean_unit_variance', 'kwargs': {'axes': ['y', 'x']}}
    """
    name, options = str(step.get("id", step.get("name"))), dict(step.get("kwargs") or {})
    fixed = options.pop("mode", None) == "fixed"
    if name == "zero_mean_unit_variance" and fixed:
        name = "fixed_zero_mean_unit_variance"
    if isinstance(options.get("axes"), str):
        options["axes"] = [_LETTERS.get(letter, letter) for letter in options["axes"]]
    return {"id": name, "kwargs": options}
