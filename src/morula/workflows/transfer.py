"""Training that starts from the weights of another one: a run of Morula, or a checkpoint of a format that Morula knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from morula.core.errors import JobError, ModelError, MorulaError, Problem
from morula.jobs.job import Job
from morula.models.checkpoint_formats import checkpoint_format
from morula.nn.transformer_options import TransformerOptions

if TYPE_CHECKING:
    from torch import Tensor

    from morula.nn.network import Network

_KEY = "network.from"
_SIZES = {"preset", "features", "width", "layers", "heads"}
"""Options by which a job states a network of its own size."""
_ENCODER = ("stem", "encoder", "reduce", "excitations", "bridge")
"""Parts of networks that look at the image; those that have none of them are encoders as a whole, their outputs aside."""
LEAST = 0.5
"""Share of the encoder's values that weights to start from must give at least."""


@dataclass(frozen=True)
class Transfer:
    """What of stored weights a network takes.

    `skipped` names the network's own tensors that are drawn anew, each with the reason; `unused` the stored ones without a place.
    """

    tensors: dict[str, Tensor]
    interpolated: tuple[str, ...]
    skipped: dict[str, str]
    unused: tuple[str, ...]
    encoder_share: float
    values_share: float

    def lines(self, path: Path) -> list[str]:
        """For the log: the whole, then parts of the network with one reason each."""
        total = len(self.tensors) + len(self.skipped)
        said = [
            f"started from {path}: {len(self.tensors)} of {total} tensors taken, {self.values_share:.1%} of the values "
            f"({self.encoder_share:.1%} of the encoder)"
        ]
        said += [f"interpolated to this grid: {', '.join(self.interpolated)}"] if self.interpolated else []
        reasons: dict[str, list[str]] = {}
        for name, reason in self.skipped.items():
            reasons.setdefault(reason, []).append(name)
        said += [f"drawn anew, {reason}: {_some(names)}" for reason, names in reasons.items()]
        return said + ([f"of the former run, not used: {_some(self.unused)}"] if self.unused else [])

    def facts(self, path: Path) -> dict[str, Any]:
        """For the run's record and the report."""
        said = self.lines(path)
        words = {"weights_to_start_from": said[0], "and_the_others": "; ".join(said[1:]) or "none"}
        return {"started_from": words, "drawn_anew": self.skipped, "not_used": list(self.unused)}


def with_stored_network(job: Job) -> Job:
    """The job with the network of `network.from`, where it does not state sizes of its own; what it states stays.

    A `unetr` takes the encoder of a `mae`; other networks start from their own kind alone.

    Raises:
        JobError: when there are no such weights, or they belong to another kind of network.
    """
    network = job.network
    path = network.from_
    if path is None:
        return job
    try:
        kind, options = stored_options(Path(path))
    except MorulaError as error:
        raise JobError([Problem.of(error, _KEY)]) from error
    if (kind, network.kind) == ("mae", "unetr"):
        encoder = set(TransformerOptions.model_fields) - {"preset", "from_"}
        options = {name: value for name, value in options.items() if name in encoder}
        sized = bool(_SIZES - {"features"} & network.model_fields_set)
    elif kind != network.kind:
        also = " or unetr" if kind == "mae" else ""
        rule = f"{path} holds a {kind}, but the network is a {network.kind}"
        remedy = f"State network.kind {kind}{also}, or name another run."
        raise JobError([Problem(_KEY, rule, code="transfer.other_network", value=path, remedy=remedy)])
    else:
        sized = bool(_SIZES & network.model_fields_set)
    if sized:
        return job
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
    return checkpoint_format(path).network_options(path)


def stored_tensors(path: Path) -> dict[str, Tensor]:
    """Weights by the names that Morula's networks give them."""
    if path.is_dir():
        from morula.nn.weights import load_weights

        return load_weights(_model_folder(path)).network.state_dict()
    return checkpoint_format(path).tensors(path)


def planned_transfer(network: Network, path: Path) -> Transfer:
    """What a network takes of stored weights: tensors of its names and shapes, stored positions interpolated to its grid.

    Raises:
        ModelError: when that is less than half of its encoder, with the reasons.
    """
    tensors, own = stored_tensors(path), network.state_dict()
    grids = (stored_options(path)[1].get("grid"), network.options.position_grid)
    taken: dict[str, Tensor] = {}
    skipped: dict[str, str] = {}
    interpolated = []
    for name, values in own.items():
        stored = tensors.get(name)
        if stored is None:
            skipped[name] = "not in the former run"
        elif stored.shape == values.shape:
            taken[name] = stored
        elif stored.ndim == 4 and tuple(values.shape) == (*stored.shape[:2], 1, *stored.shape[2:]):
            taken[name] = stored.unsqueeze(2)  # a 2D kernel in a 3D network that sees one plane at a time
        elif name.endswith("positions.stored") and all(grids) and stored.shape[-1] == values.shape[-1]:
            from morula.nn.transformer import resize_positions

            taken[name] = resize_positions(stored, *grids)  # type: ignore[arg-type]
            interpolated.append(f"{name} ({_times(grids[0])} to {_times(grids[1])})")
        else:
            skipped[name] = f"of shape {tuple(values.shape)} where the former run has {tuple(stored.shape)}"
    unused = tuple(name for name in tensors if name not in own)
    encoder = _encoder(own)
    share = _values(own, [name for name in encoder if name in taken]) / max(1, _values(own, encoder))
    transfer = Transfer(taken, tuple(interpolated), skipped, unused, share, _values(own, taken) / max(1, _values(own, own)))
    if share < LEAST:
        reasons = "; ".join(transfer.lines(path)[1:4])
        raise ModelError(
            "transfer.too_little",
            f"only {share:.1%} of the network's encoder can start from {path}, less than half: {reasons}",
            value=path,
            remedy="Give the network the options of that run (leave its sizes out), or name a run that fits.",
        )
    return transfer


def start_from(network: Network, path: Path) -> Transfer:
    """Give a network the weights that fit it; others stay as they were drawn.

    Raises:
        ModelError: as `planned_transfer`.
    """
    transfer = planned_transfer(network, path)
    network.load_state_dict({**network.state_dict(), **transfer.tensors})
    return transfer


def check_start(job: Job, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
    """Find out before training whether the weights to start from fit, and whether patterns of weights' names mean something.

    Raises:
        JobError: with what does not.
    """
    path, training = job.network.from_, job.training
    if path is None and not training.freeze and not training.rates:
        return
    import torch

    from morula.nn.build import build_network
    from morula.training.optimisers import check_patterns

    with torch.device("meta"):
        network = build_network(job.network, ndim, in_channels, heads)
    names = [name for name, _ in network.named_parameters()]
    problems = []
    for key, patterns in (("training.freeze", training.freeze), ("training.rates", training.rates)):
        try:
            check_patterns(key, patterns, names)
        except MorulaError as error:
            problems.append(Problem.of(error, key))
    try:
        if path is not None:
            planned_transfer(network, Path(path))
    except MorulaError as error:
        problems.append(Problem.of(error, _KEY))
    if problems:
        raise JobError(problems)


def _encoder(own: Mapping[str, Tensor]) -> list[str]:
    found = [name for name in own if name.split(".")[0] in _ENCODER]
    return found or [name for name in own if name.split(".")[0] not in ("outputs", "skips")]


def _values(own: Mapping[str, Tensor], names: Any) -> int:
    return sum(own[name].numel() for name in names)


def _some(names: Any, limit: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _times(grid: Any) -> str:
    return " x ".join(map(str, grid))


def _model_folder(path: Path) -> Path:
    return path / "model" if (path / "model").is_dir() else path


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value
