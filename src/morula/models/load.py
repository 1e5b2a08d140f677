"""A trained model from disk: of a run folder, or of a checkpoint that another program wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from morula.core.errors import MissingFileError, OptionError
from morula.data.normalise import Normalisation
from morula.jobs.bundled import place_of
from morula.methods import METHODS
from morula.models.checkpoint_formats import checkpoint_format
from morula.models.description import read_description
from morula.models.model import Model
from morula.models.zoo.archive import is_package
from morula.models.zoo.load import load_package
from morula.nn.weights import load_weights


def load(path: str | Path, *, channels: Sequence[str] | None = None) -> Model:
    """A bundled model by its name, the model of a run folder (or of the `model` folder in it), of a package or of a checkpoint.

    Args:
        path: the name of a bundled model such as ``nuclei``, a run folder, a model folder, or a file: a ``.zip`` of bioimage.io, a ``.pth``
            of BiaPy 3.5 to 3.7, or of CellSeg3D's WNet3D.
        channels: for a package of another program, what each channel of its output is, for example ``["F", "C"]``; ``-`` for one that is
            not used.

    Raises:
        MissingFileError: when there is none.
        ModelError: when it is damaged or gives another output than the one stored with it.

    Examples:
        >>> load("runs/nuclei").channels  # doctest: +SKIP
        ('F', 'C', 'Db')
    """
    folder = place_of(path)
    if is_package(folder):
        return load_package(folder, channels, load)
    if channels is not None:
        rule = "are named for packages of bioimage.io only"
        raise OptionError("model.channels_known", rule, key="channels", value=list(channels), remedy="Leave them out.")
    if folder.is_file():  # Morula stores a model as a folder, so a file is a checkpoint of another program
        return replace(checkpoint_format(folder).model(folder), source=folder)
    inner = folder / "model"
    folder = inner if inner.is_dir() else folder
    if not (folder / "model.json").is_file():
        foreign = [*Path(path).glob("best_checkpoint.pytorch"), *Path(path).parent.glob("best_checkpoint.pytorch")]
        remedy = (
            f"It is a training by a job of pytorch-3dunet: predict with `morula predict3dunet --config JOB --model_path {foreign[0]}`, "
            "or train the native job that `morula convert` makes of it."
            if foreign
            else "Name a run folder whose training has finished, or its model folder."
        )
        raise MissingFileError("model.missing", "holds no model: there is no model/model.json", file=path, remedy=remedy)
    described = read_description(folder)  # before the weights, which take longer
    network, _ = load_weights(folder)
    job, voxel_size, ndim = described.job, described.voxel_size, network.ndim
    method = METHODS.load(job.method.kind)(job.method, job.objects, ndim=ndim, spacing=voxel_size.spacing(ndim))
    described.check_method(method.channels, method.heads)
    stored = described.normalisation
    return Model(
        job=job,
        network=network,
        method=method,
        in_channels=network.in_channels,
        voxel_size=voxel_size,
        normalisation=None if stored is None else Normalisation.from_dict(stored.model_dump()),
        source=place_of(path),
        diameter=described.diameter,
        colour=described.colour,
    )
