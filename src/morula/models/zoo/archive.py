"""Packages as archives: only the files that a description names are read, each within a bound, and nothing is unpacked to the disk."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from morula.core.errors import JobError, ModelError
from morula.jobs.yaml_lines import MAX_BYTES, parse_documents

DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml", "model.yaml")
"""Names of the description of a package."""
MAX_MEMBER = 8 << 30
"""Most bytes of one file of a package."""
MAX_FILES = 10_000
"""Most files of a package."""
FREE = 64 << 20
"""What any file may unpack to."""
RATIO = 20  # weights hardly shrink; a picture or a test image may be all zeros, and is small
_COPY = "Download the package again from its source."


class Package:
    """A package that is open for reading.

    Args:
        path: the ``.zip`` file.

    Raises:
        ModelError: when it is no package, or declares more than it can hold.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._archive() as archive:
            members = archive.infolist()
            if len(members) > MAX_FILES:
                rule = f"holds {len(members)} files; packages hold up to {MAX_FILES}"
                raise ModelError("zoo.too_many_files", rule, file=path, remedy=_COPY)
            self.names = {member.filename for member in members}
        name = next((name for name in DESCRIPTIONS if name in self.names), None)
        if name is None:
            rule = f"is not a package of bioimage.io: it holds none of {', '.join(DESCRIPTIONS)}"
            raise ModelError("zoo.no_description", rule, file=path, remedy="Give the package as it was downloaded.")
        try:
            document = parse_documents(self.read(name, most=MAX_BYTES).decode("utf-8-sig"), name)[0].data
        except (JobError, UnicodeDecodeError) as error:
            problem = error.problems[0] if isinstance(error, JobError) else error
            raise ModelError("zoo.description", f"cannot be read: {problem}", key=name, file=path, remedy=_COPY) from error
        if not isinstance(document, dict) or document.get("type", "model") != "model":
            kind = document.get("type") if isinstance(document, dict) else None
            raise ModelError(
                "zoo.not_a_model", "describes no model", key="type", value=kind, file=path, remedy="Give a package of a model."
            )
        self.description: dict[str, Any] = document

    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except Exception as error:  # of any class: the table of contents may hold anything
            raise ModelError("zoo.damaged", f"is damaged or not an archive ({error})", file=self.path, remedy=_COPY) from error

    def read(self, name: str, *, most: int = MAX_MEMBER) -> bytes:
        """The content of a file.

        Raises:
            ModelError: for a place outside of the package, a file that it lacks, or one that is larger than it may be.
        """
        place = PurePosixPath(name)
        if "://" in name or "\\" in name or place.is_absolute() or ".." in place.parts:
            rule = "names a place outside of the package"
            raise ModelError(
                "zoo.outside", rule, key="source", value=name, file=self.path, remedy="Give a package that holds all its files."
            )
        if place.as_posix() not in self.names:
            raise ModelError("zoo.missing_file", "is not in the package", key="source", value=name, file=self.path, remedy=_COPY)
        try:
            with self._archive() as archive:
                member = archive.getinfo(place.as_posix())
                if member.file_size > min(most, max(FREE, RATIO * member.compress_size)):
                    rule = f"unpacks to {member.file_size} bytes, which no such file does"
                    raise ModelError("zoo.too_large", rule, key="source", value=name, file=self.path, remedy=_COPY)
                with archive.open(member) as stream:
                    return stream.read(member.file_size + 1)[: member.file_size]
        except ModelError:
            raise
        except Exception as error:  # of zipfile and of each method of compression
            raise ModelError("zoo.damaged", f"is damaged ({error})", key="source", value=name, file=self.path, remedy=_COPY) from error


def is_package(path: Path) -> bool:
    """Whether a file is an archive with a description of bioimage.io at its top. Checkpoints of PyTorch are archives, too."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name in archive.NameToInfo for name in DESCRIPTIONS)
    except Exception:  # noqa: BLE001 - a damaged archive is no package
        return False
