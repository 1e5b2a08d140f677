"""Normalisations as the processing steps of the specification of bioimage.io, in both directions.

The steps are those of the model specification 0.5 (https://github.com/bioimage-io/spec-bioimage-io): `scale_range`, `scale_linear`,
`zero_mean_unit_variance`, `fixed_zero_mean_unit_variance`, `clip` and `ensure_dtype`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from morula.core.errors import ModelError
from morula.data.normalise import Fixed, MinMax, Normalisation, Options, Percentile, ZScore
from morula.data.options import Sampling

Step: TypeAlias = dict[str, Any]
"""A processing step: `id`, and `kwargs` where it has some."""

EPS = 1e-6
"""What the specification adds to a divisor."""


def steps_of(sampling: Sampling, stored: Normalisation | None, spatial: str) -> list[Step]:
    """The preprocessing steps of a model.

    Args:
        sampling: of its job.
        stored: that of its training images, where each image is not normalised by its own values.
        spatial: the spatial axes, ``zyx`` or ``yx``.

    Raises:
        ModelError: for a normalisation that the specification cannot express.

    Examples:
        >>> steps_of(Sampling(normalise=Percentile(low=2, high=98)), None, "yx")[0]["kwargs"]
        {'axes': ['y', 'x'], 'min_percentile': 2.0, 'max_percentile': 98.0, 'eps': 1e-06}
        >>> steps_of(Sampling(normalise=Fixed(offset=10, scale=5)), None, "yx")
        [{'id': 'scale_linear', 'kwargs': {'gain': 0.2, 'offset': -2.0}}]
    """
    again = sampling.renormalise
    return [*_steps_of(sampling.normalise, stored, spatial), *([] if again is None else _steps_of(again, None, spatial))]


def _steps_of(options: Options, stored: Normalisation | None, spatial: str) -> list[Step]:
    if isinstance(options, Fixed):
        offset, scale = (value if isinstance(value, tuple) else (value,) for value in (options.offset, options.scale))
        length = max(len(offset), len(scale))
        stored = Normalisation(offset * (length // len(offset)), scale * (length // len(scale)), options.clip)
    if stored is not None:
        return [_linear(stored), *_clip(stored.clip)]
    assert not isinstance(options, Fixed)
    axes = [*(["channel"] if options.channels == "together" else []), *spatial]
    match options:
        case Percentile():
            found = [_step("scale_range", axes=axes, min_percentile=options.low, max_percentile=options.high, eps=EPS)]
            found += [_step("scale_linear", gain=options.top, offset=0.0)] if options.top != 1 else []
            return found + _clip((0.0, options.top) if options.clip else None)
        case ZScore():
            return [_step("zero_mean_unit_variance", axes=axes, eps=EPS), *_clip(options.clip)]
        case MinMax():
            low, high = options.range
            if options.low is not None and options.high is not None:
                unit = (options.high - options.low) / (high - low)
                return [_linear(Normalisation((options.low - low * unit,), (unit,))), *_clip(options.clip)]
            if options.clip is not None:
                rule = "has one limit, for which the specification has no step"
                raise ModelError("zoo.normalisation", rule, key="sampling.normalise", remedy="Give both limits, or none.")
            found = [_step("scale_range", axes=axes, min_percentile=0.0, max_percentile=100.0, eps=EPS)]
            return found + ([_step("scale_linear", gain=high - low, offset=low)] if (low, high) != (0.0, 1.0) else [])


def _step(name: str, **kwargs: object) -> Step:
    return {"id": name, "kwargs": kwargs}


def _linear(stored: Normalisation) -> Step:
    gains = [1 / scale for scale in stored.scale]
    offsets = [-offset / scale for offset, scale in zip(stored.offset, stored.scale, strict=True)]
    if len(gains) == 1:
        return _step("scale_linear", gain=gains[0], offset=offsets[0])
    return _step("scale_linear", axis="channel", gain=gains, offset=offsets)


def _clip(limits: Sequence[float] | None) -> list[Step]:
    return [] if limits is None else [_step("clip", min=float(limits[0]), max=float(limits[1]))]


def applied(steps: Iterable[Step], array: np.ndarray) -> np.ndarray:
    """An array C(Z)YX after the steps of `steps_of`, computed as the specification says; the expected output of a package is made of it.

    Examples:
        >>> applied([{"id": "scale_linear", "kwargs": {"gain": 2.0, "offset": 1.0}}], np.ones((1, 1, 1)))
        array([[[3.]]])
    """
    for step in steps:
        options = step["kwargs"]
        along = tuple(range(int("channel" not in options.get("axes", [])), array.ndim))
        match step["id"]:
            case "scale_range":
                bounds = [options["min_percentile"], options["max_percentile"]]
                low, high = np.percentile(array, bounds, axis=along, keepdims=True)
                array = (array - low) / (high - low + options["eps"])
            case "zero_mean_unit_variance":
                array = (array - array.mean(along, keepdims=True)) / (array.std(along, keepdims=True) + options["eps"])
            case "scale_linear":
                gain, offset = (np.reshape(options[name], (-1, *[1] * (array.ndim - 1))) for name in ("gain", "offset"))
                array = array * gain + offset
            case "clip":
                array = np.clip(array, options["min"], options["max"])
    return array


def normalise_of(steps: Sequence[Mapping[str, Any]], file: str) -> dict[str, Any]:
    """`sampling.normalise` of a job for the preprocessing steps of a package.

    Raises:
        ModelError: for steps that are not a normalisation of Morula.

    Examples:
        >>> normalise_of([{"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"]}}], "a.zip")
        {'kind': 'zscore', 'channels': 'each'}
    """
    found: dict[str, Any] | None = None
    for step in steps:
        name, options = str(step.get("id")), dict(step.get("kwargs") or {})
        axes = options.get("axes")
        channels = "together" if axes is None or "channel" in axes else "each"
        main: dict[str, Any] | None = None
        match name:
            case "ensure_dtype":
                continue
            case "clip":
                _add_clip(found, (options.get("min"), options.get("max")), file)
                continue
            case "scale_range":
                low, high = float(options.get("min_percentile", 0.0)), float(options.get("max_percentile", 100.0))
                named = {"kind": "minmax"} if (low, high) == (0, 100) else {"kind": "percentile", "low": low, "high": high}
                main = {**named, "channels": channels}
            case "zero_mean_unit_variance":
                main = {"kind": "zscore", "channels": channels}
            case "fixed_zero_mean_unit_variance":
                main = {"kind": "fixed", "offset": options["mean"], "scale": options["std"]}
            case "scale_linear":
                main = _fixed(options)
        if main is None or found is not None:
            rule = f"has the preprocessing {', '.join(str(step.get('id')) for step in steps)}, which Morula does not know in this order"
            raise ModelError("zoo.preprocessing", rule, key="inputs.preprocessing", value=name, file=file, remedy=_OTHER)
        found = main
    return found or {"kind": "fixed", "offset": 0.0, "scale": 1.0}


_OTHER = "Predict with bioimageio.core, and make objects of the channels with `morula.decode`."


def _fixed(options: Mapping[str, Any]) -> dict[str, Any]:
    gain, offset = (np.atleast_1d(np.asarray(options.get(name, default), float)) for name, default in (("gain", 1.0), ("offset", 0.0)))
    values = ((-offset / gain).tolist(), (1 / gain).tolist())
    offsets, scales = (value[0] if len(value) == 1 else value for value in values)
    return {"kind": "fixed", "offset": offsets, "scale": scales}


def _add_clip(found: dict[str, Any] | None, limits: tuple[Any, Any], file: str) -> None:
    """Clipping after a normalisation."""
    if found is not None and found["kind"] == "percentile" and limits == (0, 1):
        found["clip"] = True
    elif found is not None and found["kind"] == "minmax" and limits == (0, 1):
        return  # all values are in this range
    elif found is not None and found["kind"] in ("zscore", "fixed") and None not in limits:
        found["clip"] = [float(limit) for limit in limits]
    else:
        rule = "clips values where Morula cannot"
        raise ModelError("zoo.preprocessing", rule, key="inputs.preprocessing", value=limits, file=file, remedy=_OTHER)
