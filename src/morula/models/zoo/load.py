"""A model from a package of bioimage.io: Morula's own by its own files, others by their description."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from morula.core.errors import ModelError, MorulaError, OptionError
from morula.models.model import Model
from morula.models.zoo.archive import Package
from morula.models.zoo.package import OWN


def load_package(path: Path, channels: Sequence[str] | None, load_folder: Callable[[Path], Model]) -> Model:
    """The model of a package.

    Args:
        path: the ``.zip`` file.
        channels: what each channel of a package of another program is, see `morula.load`.
        load_folder: reads a model folder of Morula.

    Raises:
        ModelError: when the package is damaged, or needs what Morula does not run.
        OptionError: for `channels` with a package of Morula, which knows them.
    """
    package = Package(path)
    if not set(OWN) <= package.names:
        return _foreign(package, channels)
    if channels is not None:
        rule = "are known: the package holds a model of Morula"
        raise OptionError("zoo.channels_known", rule, key="channels", value=list(channels), remedy="Leave them out.")
    with TemporaryDirectory() as folder:  # two files with names that are fixed here
        for name in OWN:
            Path(folder, name).write_bytes(package.read(name))
        return replace(load_folder(Path(folder)), source=path)


def _foreign(package: Package, channels: Sequence[str] | None) -> Model:
    from morula.models.zoo.foreign import foreign_model

    try:
        return foreign_model(package, channels)
    except MorulaError:
        raise
    except Exception as error:  # of any class: a description may hold any value anywhere
        reason = (str(error).splitlines() or [""])[0][:120]
        rule = f"cannot be used: its description holds a value of another type ({type(error).__name__}: {reason})"
        raise ModelError("zoo.description", rule, file=package.path, remedy="Download the package again from its source.") from error
