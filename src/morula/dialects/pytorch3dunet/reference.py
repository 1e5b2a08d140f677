"""The list of all keys of job files, for the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import getdoc

from morula.dialects.pytorch3dunet.keys import Section
from morula.dialects.pytorch3dunet.losses import LOSSES, LossOptions
from morula.dialects.pytorch3dunet.metrics import METRICS, MetricOptions
from morula.dialects.pytorch3dunet.networks import NETWORKS, NetworkOptions
from morula.dialects.pytorch3dunet.optimisers import OPTIMIZERS, OptimizerOptions
from morula.dialects.pytorch3dunet.sections import (
    FileOptions,
    FormatterOptions,
    LoadersOptions,
    PhaseOptions,
    PlainOptions,
    PredictorOptions,
    SliceBuilderOptions,
    TrainerOptions,
    TransformerOptions,
)
from morula.dialects.pytorch3dunet.transform_lists import TRANSFORMS
from morula.dialects.pytorch3dunet.transforms import Transform

SECTIONS: Mapping[str, type[Section]] = {
    "plain": PlainOptions,
    "trainer": TrainerOptions,
    "formatter": FormatterOptions,
    "predictor": PredictorOptions,
    "slice_builder": SliceBuilderOptions,
    "transformer": TransformerOptions,
    "file": FileOptions,
    "phase": PhaseOptions,
    "loaders": LoadersOptions,
    "model": NetworkOptions,
    "optimizer": OptimizerOptions,
    "loss": LossOptions,
    "eval_metric": MetricOptions,
    "transform": Transform,
}
NAMED: Mapping[str, Mapping[str, type[Section]]] = {
    "model": NETWORKS,
    "optimizer": OPTIMIZERS,
    "loss": LOSSES,
    "eval_metric": METRICS,
    "transform": TRANSFORMS,
}


def documentation() -> Iterator[str]:
    """The table of all keys as Markdown, one section per section of a job file.

    Examples:
        >>> next(row for row in documentation() if row.startswith("| `pmin`"))
        '| `pmin` | `1.0` | Percentile that becomes 0. | `sampling.normalise` |'
    """
    for title, section in SECTIONS.items():
        yield f"\n### `{title}`\n\n{_summary(section)}\n"
        yield from section.rows()
        for name, kind in NAMED.get(title, {}).items():
            yield f"\n`{name}`: {_summary(kind)}\n"
            yield from kind.rows(without=section.model_fields)


def _summary(section: type[Section]) -> str:
    return (getdoc(section) or "").partition("\n")[0]
