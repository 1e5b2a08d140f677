"""Training that starts from the weights of another one: a run of Morula, or a WNet3D checkpoint of CellSeg3D."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from morula.core.errors import JobError, ModelError, MorulaError, Problem

if TYPE_CHECKING:
    from torch import Tensor

    from morula.nn.network import Network

_KEY = "network.from"


def with_stored_network(job: Any) -> Any:
    """The job with the network of `network.from`, where it does not state features of its own; what it states stays.

    Raises:
        JobError: when there are no such weights, or they belong to another kind of network.
    """
    network = job.network
    path = getattr(network, "from_", None)
    if path is None or "features" in network.model_fields_set:
        return job
    try:
        kind, options = stored_options(Path(path))
    except MorulaError as error:
        raise JobError([Problem(_KEY, str(error))]) from error
    if kind != network.kind:
        raise JobError([Problem(_KEY, f"{path} holds a {kind}, but the network is a {network.kind}; use the same kind.")])
    own = {name: getattr(network, name) for name in network.model_fields_set}
    return job.model_copy(update={"network": type(network)(**{**options, **own, "from_": path})})


def stored_options(path: Path) -> tuple[str, dict[str, Any]]:
    """Kind and options of the network that weights belong to.

    Raises:
        MissingFileError: when there is nothing.
        ModelError: when it is damaged or of another program.
    """
    if path.is_dir():
        from morula.nn.weights import read_sidecar

        described = read_sidecar(_model_folder(path))["network"]
        return described["kind"], {name: _frozen(value) for name, value in described["options"].items()}
    from morula.dialects.cellseg3d import options_of
    from morula.nn.weights import load_state_dict_file

    options = options_of(load_state_dict_file(path), str(path)).model_dump(exclude={"from_"})
    return "wnet", options


def stored_tensors(path: Path) -> dict[str, Tensor]:
    """Weights by the names that Morula's networks give them."""
    if path.is_dir():
        from morula.nn.weights import load_weights

        return load_weights(_model_folder(path)).network.state_dict()
    from morula.dialects.cellseg3d import renamed
    from morula.nn.weights import load_state_dict_file

    return renamed(load_state_dict_file(path))


def start_from(network: Network, path: Path) -> str:
    """Give a network the weights that fit it by name and shape; others stay as they were drawn. Returns what was taken, in words.

    Raises:
        ModelError: when none fits.
    """
    tensors, own = stored_tensors(path), network.state_dict()
    fitting = {name: values for name, values in tensors.items() if name in own and own[name].shape == values.shape}
    if not fitting:
        raise ModelError(f"none of the {len(tensors)} tensors in {path} fits the network. State the kind and features that they have.")
    network.load_state_dict({**own, **fitting})
    left = sorted(set(own) - set(fitting))
    drawn = f"; drawn anew: {', '.join(left[:5])}{f' and {len(left) - 5} more' if len(left) > 5 else ''}" if left else ""
    return f"started from {path}: {len(fitting)} of {len(own)} tensors taken{drawn}"


def _model_folder(path: Path) -> Path:
    return path / "model" if (path / "model").is_dir() else path


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value
