"""Jobs with other values, for the search of settings on the validation images."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

from morula.core.variants import expand_variant, variant_types
from morula.jobs.job import Job
from morula.jobs.load import validate
from morula.jobs.yaml_lines import Document
from morula.labels.refine import REFINEMENTS

REFINE = "objects.refine."
"""Keys that begin so name an operation on objects: 0 or false leaves it out, true or a number is its setting."""


def changed(job: Job, values: Mapping[str, object]) -> Job:
    """The job with other values at dotted keys, checked as a whole.

    Raises:
        JobError: when the values do not make a valid job.

    Examples:
        >>> from morula.jobs.load import load_job
        >>> job = load_job({"images": {"train": {"raw": "a", "labels": "b"}}, "method": "semantic"})
        >>> changed(job, {"method.threshold": 0.4}).method.threshold
        0.4
    """
    # through the document rather than model_copy, so that the whole job is validated with the new values
    document = job.model_dump(mode="json", by_alias=True)
    for key, value in values.items():
        if key.startswith(REFINE):
            document["objects"]["refine"] = with_operation(document["objects"]["refine"], key.removeprefix(REFINE), value)
            continue
        *parents, last = key.split(".")
        inner = document
        for parent in parents:
            inner[parent] = inner.get(parent) or {}
            inner = inner[parent]
        inner[last] = copy.deepcopy(value)
    return validate(Document(document, {}, None))


def with_operation(operations: Sequence[Mapping[str, object]], name: str, value: object) -> list[Mapping[str, object]]:
    """Operations on objects with the setting of one of them replaced, left out (0, false), or put at the end.

    Examples:
        >>> with_operation([{"kind": "fill_holes"}], "remove_small", 20)
        [{'kind': 'fill_holes'}, {'kind': 'remove_small', 'size': 20}]
        >>> with_operation([{"kind": "remove_small", "size": 5}, {"kind": "fill_holes"}], "remove_small", 0)
        [{'kind': 'fill_holes'}]
    """
    made: list[Mapping[str, object]] = []
    if value:
        operation = expand_variant(name if value is True else {name: value}, variant_types(REFINEMENTS))
        assert isinstance(operation, Mapping)  # a name, or a name with its setting, always expands to one
        made = [operation]
    places = [place for place, other in enumerate(operations) if other["kind"] == name]
    if not places:
        return [*operations, *made]
    return [*operations[: places[0]], *made, *operations[places[0] + 1 :]]
