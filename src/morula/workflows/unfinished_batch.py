"""Which images of a batch are finished, so that the same command continues after it was killed.

The record is a hidden file in the folder of the results, ``.morula-unfinished-<key>.jsonl``. It exists from the first image until the last
one is finished. The key is a checksum of everything that decides the results except for the images, so only the same command continues::

    {"unfinished": "5f0c...", "outputs": ["a.tif", "b.tif"]}
    {"settled": {"memory": "8000000000"}}
    {"begin": "a"}
    {"done": "a", "image": [...], "files": {"a.tif": [...]}, "events": [...]}
    {"begin": "b"}
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

from morula.core.atomic import atomic
from morula.core.errors import MorulaError, OptionError
from morula.core.events import Event, FileWritten, Logged, from_record, to_record
from morula.core.image import Image
from morula.core.location import split_location
from morula.core.manifest import append_lines, fingerprint, read_lines
from morula.io.write import files_behind
from morula.models.model import Model
from morula.workflows.sources import Opened

_START, _END = ".morula-unfinished-", ".jsonl"


@dataclass(eq=False)
class UnfinishedBatch:
    """The record of one command in a folder.

    Attributes:
        folder: folder of the results.
        key: checksum of what decides the results.
        outputs: names of the label files.
        begun: names of the images that an interrupted command has begun.
        done: the lines of the images that it has finished.
        written: files of the images so far, also of those that were kept.
        settled: values that were chosen when the command first began, such as the memory that was free.
    """

    folder: Path
    key: str
    outputs: tuple[str, ...]
    begun: set[str] = field(default_factory=set)
    done: dict[str, dict[str, object]] = field(default_factory=dict)
    written: list[Path] = field(default_factory=list)
    settled: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, model: Model, outputs: Sequence[Path], settings: Mapping[str, object]) -> UnfinishedBatch:
        """The record of a command, with what an interrupted one of the same key has done."""
        names = tuple(os.path.relpath(output, folder) for output in outputs)
        batch = cls(folder, model_key(model, {**settings, "outputs": names}), names)
        for line in read_lines(batch.file, batch._header) or ():
            if isinstance(settled := line.get("settled"), dict):
                batch.settled.update(settled)
            elif isinstance(line.get("begin"), str):
                batch.begun.add(str(line["begin"]))
            elif isinstance(line.get("done"), str):
                batch.done[str(line["done"])] = line
        return batch

    def agreed(self, name: str, value: str) -> str:
        """The value that the interrupted command chose, else this one, which is recorded: all images are predicted alike."""
        return self.settled.setdefault(name, value)

    @property
    def file(self) -> Path:
        """The hidden file."""
        return self.folder / f"{_START}{self.key[:16]}{_END}"

    @property
    def _header(self) -> dict[str, object]:
        return {"unfinished": self.key, "outputs": list(self.outputs)}

    def check_same(self) -> None:
        """Reject unfinished results of a command with other arguments, for a command that is to continue its own.

        Raises:
            OptionError: ``resume.other_command``.
        """
        others = [file for file in unfinished_in(self.folder) if file != self.file and set(_outputs(file)) & set(self.outputs)]
        if others:
            rule = f"does not fit: the interrupted command that began to write {', '.join(_outputs(others[0]))} had other arguments"
            remedy = "Give the command as it was, or leave out --resume to begin anew."
            raise OptionError("resume.other_command", rule, key="resume", file=self.folder, remedy=remedy)

    def start(self) -> None:
        """Begin the record; those of interrupted commands that wrote the same files are removed, because their results are replaced."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for other in unfinished_in(self.folder):
            if other != self.file and set(_outputs(other)) & set(self.outputs):
                other.unlink(missing_ok=True)
        if not self.begun:
            with atomic(self.file) as part:
                lines = (self._header, {"settled": self.settled})
                part.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")

    def steps(self, image: Opened, steps: Iterator[Event]) -> Iterator[Event]:
        """The events of one image: those of `steps`, or of its files when an interrupted command has finished it."""
        kept = self._kept(image)
        if kept is not None:
            yield Logged(f"{image.name}: was finished before the interruption, and is kept")
            self.written += [event.path for event in kept]
            yield from kept
            return
        append_lines(self.file, self._header, [{"begin": image.name}])
        written = []
        with closing(steps):  # type: ignore[type-var] # a generator
            for event in steps:
                written += [event] if isinstance(event, FileWritten) else []
                yield event
        self.written += [event.path for event in written]
        files = {str(event.path): _state(event.path) for event in written}
        events = [to_record(event, self.folder) for event in written]
        append_lines(self.file, self._header, [{"done": image.name, "image": origin_of(image.raw), "files": files, "events": events}])

    def _kept(self, image: Opened) -> list[FileWritten] | None:
        line = self.done.get(image.name)
        if line is None or line.get("image") != origin_of(image.raw):
            return None
        try:
            files, events = line["files"], line["events"]
            if not isinstance(files, dict) or not isinstance(events, list) or any(_state(Path(file)) != files[file] for file in files):
                return None
            known = (from_record(event, self.folder) for event in events)
            return [event for event in known if isinstance(event, FileWritten)]
        except (OSError, MorulaError, KeyError, TypeError, ValueError, AttributeError):  # damaged: the image is computed again
            return None

    def end(self) -> None:
        """Remove the record: all images are finished."""
        self.file.unlink(missing_ok=True)


def unfinished_in(folder: Path) -> list[Path]:
    """The records of interrupted commands in a folder."""
    with suppress(OSError):
        return [path for path in folder.iterdir() if path.name.startswith(_START) and path.name.endswith(_END)]
    return []


def _outputs(file: Path) -> list[str]:
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        return list(map(str, json.loads(file.read_text(encoding="utf-8").splitlines()[0])["outputs"]))
    return []


def model_key(model: Model, settings: Mapping[str, object]) -> str:
    """A checksum of everything that decides the results of a model, except for the image."""
    digest = hashlib.sha256()
    for name, tensor in model.network.state_dict().items():
        digest.update(name.encode() + np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    normalisation = None if model.normalisation is None else model.normalisation.as_dict()
    facts = {
        "version": version("morula"),
        "job": model.job.model_dump(mode="json", by_alias=True),
        "normalisation": normalisation,
        "voxel_size": model.voxel_size.asdict(),
        **settings,
    }
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def origin_of(image: Image) -> list[object]:
    """What an image was read from: files with size and time, or the checksum of an array in memory."""
    places = sorted(set(files_behind(image)))
    if places:
        return [[place, _tree(split_location(place)[0])] for place in places]
    return [hashlib.sha256(np.ascontiguousarray(np.asarray(image)).tobytes()).hexdigest()]


def _state(path: Path) -> object:
    """The content of a result: size and checksum of a file, names, sizes and times of the files in a folder."""
    place = split_location(path)[0]
    return fingerprint(place, whole=True) if place.is_file() else _tree(place)


def _tree(path: Path) -> str:
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(content for content in path.rglob("*") if content.is_file()):
        status = file.stat()
        digest.update(f"{os.path.relpath(file, path)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()
