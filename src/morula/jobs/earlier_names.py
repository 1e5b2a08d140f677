"""Keys and channel names of earlier versions, which job files, ``--set``, saved models and run folders may still use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from morula.core.options import rename_keys
from morula.core.remark import Remark
from morula.data.options import Sampling
from morula.inference.options import Prediction
from morula.jobs.job import Images
from morula.jobs.yaml_lines import Document, Place
from morula.methods.object_options import ObjectOptions
from morula.training.options import AdamW, Training

RENAMED: Mapping[Place, Mapping[str, str]] = {
    ("images",): Images.earlier_names,
    ("sampling",): Sampling.earlier_names,
    ("prediction",): Prediction.earlier_names,
    ("objects",): ObjectOptions.earlier_names,
    ("training",): Training.earlier_names,
    ("training", "optimiser"): AdamW.earlier_names,
}
"""Earlier and present name of each renamed key, by the section that holds it."""


def renamed(key: str) -> str:
    """A dotted key under its present name.

    Examples:
        >>> renamed("objects.process.seeds"), renamed("training.epochs")
        ('objects.decoder.seeds', 'training.epochs')
    """
    parts = key.split(".")
    # sections themselves were never renamed, so one pass over them is enough
    for section, names in RENAMED.items():
        end = len(section)
        if tuple(parts[:end]) == section and len(parts) > end:
            parts[end] = names.get(parts[end], parts[end])
    return ".".join(parts)


def renaming_note(earlier: str, present: str, place: str = "") -> Remark:
    """What to tell the user about a key that was renamed; `place` is the file and the line."""
    return Remark("job.earlier_key", f"{place}the key {earlier} is now called {present}; the earlier name is still accepted")


def with_present_names(document: Document) -> tuple[Document, tuple[str, ...]]:
    """A document with its keys under their present names, and one note for each key that was renamed.

    Lines of keys stay known under the present names.

    Raises:
        OptionError: when a key is given under both names.
    """
    data, notes = document.data, []
    for section, names in RENAMED.items():
        values = _inside(data, section)
        # every renamed key gets its note before any is renamed, because notes state the keys as the user wrote them
        for earlier in [name for name in names if isinstance(values, Mapping) and name in values]:
            old, new = (".".join(map(str, (*section, name))) for name in (earlier, names[earlier]))
            line = document.line((*section, earlier))
            place = "" if document.file is None else f"{document.file}:{line}: " if line else f"{document.file}: "
            notes.append(renaming_note(old, new, place))
        if isinstance(values, Mapping):
            data = _replaced(data, section, rename_keys(values, names))
    data = _replaced_tuned(data)  # a run of an earlier version holds the result of a search, with keys of that version
    return document.with_data(data, renamed_place), tuple(notes)


def renamed_place(place: Place) -> Place:
    """Path of a key under its present names."""
    for section, names in RENAMED.items():
        end = len(section)
        if place[:end] == section and len(place) > end:
            present = names[str(place[end])].split(".") if place[end] in names else place[end : end + 1]
            place = (*section, *present, *place[end + 1 :])
    return place


def _inside(data: object, section: Place) -> object:
    for key in section:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def _replaced(data: object, section: Place, values: Mapping[str, object]) -> object:
    """A nested mapping with the mapping at one place replaced; the given one stays as it is."""
    if not section or not isinstance(data, Mapping):
        return dict(values)
    return {key: _replaced(inner, section[1:], values) if key == section[0] else inner for key, inner in data.items()}


def _replaced_tuned(data: object) -> object:
    """The record of a search for settings, whose values have dotted keys, under the present names."""
    record = _inside(data, ("objects", "tuned"))
    if not isinstance(record, Mapping):
        return data
    present = {key: dict(_present(values)) if key in ("before", "after") else values for key, values in record.items()}
    return _replaced(data, ("objects", "tuned"), present)


def _present(values: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        yield renamed(key), value
