"""Training that starts from the weights of another one: a run of Morula, or a checkpoint of a format that Morula knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor

from morula.core.errors import JobError, ModelError, MorulaError, Problem
from morula.jobs.bundled import place_of
from morula.jobs.job import Job
from morula.models.checkpoint_formats import checkpoint_format
from morula.nn.build import build_network
from morula.nn.network import Network
from morula.nn.options import AUTO
from morula.nn.transformer import resize_positions
from morula.nn.transformer_options import TransformerOptions
from morula.nn.weights import load_weights, read_sidecar
from morula.training.optimisers import check_patterns

_KEY = "network.from"
_SIZES = {"preset", "features", "width", "layers", "heads"}
"""Options by which a job states a network of its own size."""
_ENCODER = ("stem", "encoder", "reduce", "excitations", "bridge")
"""Names of the modules that encode the image. A network without any of them is an encoder as a whole, except for its outputs."""
LEAST = 0.5
"""Share of the encoder's values that weights to start from must give at least."""


@dataclass(frozen=True)
class Transfer:
    """The stored weights that a network starts from.

    `skipped` names the tensors of the network that keep their random initial values, each with the reason; `unused` the stored tensors
    that the network does not have. The shares count values, not tensors.
    """

    tensors: dict[str, Tensor]
    interpolated: tuple[str, ...]
    skipped: dict[str, str]
    unused: tuple[str, ...]
    encoder_share: float
    values_share: float

    def lines(self, path: Path) -> list[str]:
        """Lines for the log: the total, then the skipped tensors grouped by reason."""
        total = len(self.tensors) + len(self.skipped)
        lines = [
            f"started from {path}: {len(self.tensors)} of {total} tensors taken, {self.values_share:.1%} of the values "
            f"({self.encoder_share:.1%} of the encoder)"
        ]
        lines += [f"interpolated to this grid: {', '.join(self.interpolated)}"] if self.interpolated else []
        reasons: dict[str, list[str]] = {}
        for name, reason in self.skipped.items():
            reasons.setdefault(reason, []).append(name)
        lines += [f"initialised randomly, {reason}: {_some(names)}" for reason, names in reasons.items()]
        return lines + ([f"of the earlier run, not used: {_some(self.unused)}"] if self.unused else [])

    def facts(self, path: Path) -> dict[str, object]:
        """Entries of the provenance record, which the report shows."""
        lines = self.lines(path)
        words = {"weights_to_start_from": lines[0], "and_the_others": "; ".join(lines[1:]) or "none"}
        return {"started_from": words, "drawn_anew": self.skipped, "not_used": list(self.unused)}


def with_stored_network(job: Job) -> Job:
    """The job with the network options of `network.from`, unless the job states a size itself; options that it states are kept.

    A `unetr` takes the encoder of a `mae`; other networks start only from networks of the same kind.

    Raises:
        JobError: when there are no such weights, or they belong to another kind of network.
    """
    network = job.network
    path = network.from_
    if path is None or path == AUTO:
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


def stored_options(path: Path) -> tuple[str, dict[str, object]]:
    """Kind and options of the network that weights belong to.

    Raises:
        MissingFileError: when the file or folder does not exist.
        ModelError: when it is damaged, or of an unknown program.
    """
    path = place_of(path)
    if path.is_dir():
        described = read_sidecar(_model_folder(path))["network"]
        return described["kind"], {name: _frozen(value) for name, value in described["options"].items()}
    return checkpoint_format(path).network_options(path)


def stored_tensors(path: Path) -> dict[str, Tensor]:
    """Weights by the names that Morula's networks give them."""
    path = place_of(path)
    if path.is_dir():
        return load_weights(_model_folder(path)).network.state_dict()
    return checkpoint_format(path).tensors(path)


def planned_transfer(network: Network, path: Path) -> Transfer:
    """The stored weights that fit a network: tensors of equal name and shape.

    Two kinds of tensors are adapted: a 2D kernel becomes a 3D kernel of one plane, and position embeddings are interpolated to the grid of
    the network.

    Raises:
        ModelError: when less than half of the values of the encoder fit, with the reasons.
    """
    tensors, own = stored_tensors(path), network.state_dict()
    stored_grid, grid = stored_options(path)[1].get("grid"), network.options.position_grid
    taken: dict[str, Tensor] = {}
    skipped: dict[str, str] = {}
    interpolated = []
    for name, values in own.items():
        stored = tensors.get(name)
        if stored is None:
            skipped[name] = "not in the earlier run"
        elif stored.shape == values.shape:
            taken[name] = stored
        elif stored.ndim == 4 and tuple(values.shape) == (*stored.shape[:2], 1, *stored.shape[2:]):
            taken[name] = stored.unsqueeze(2)  # a 2D kernel in a 3D network whose kernels span one plane
        elif name.endswith("positions.stored") and isinstance(stored_grid, tuple) and grid and stored.shape[-1] == values.shape[-1]:
            taken[name] = resize_positions(stored, stored_grid, grid)
            interpolated.append(f"{name} ({_times(stored_grid)} to {_times(grid)})")
        else:
            skipped[name] = f"of shape {tuple(values.shape)}, in the earlier run {tuple(stored.shape)}"
    unused = tuple(name for name in tensors if name not in own)
    encoder = _encoder(own)
    # by values, because a few large tensors hold most of a network
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
    """Load the weights that fit into a network; the others keep their initial values.

    Raises:
        ModelError: as `planned_transfer`.
    """
    transfer = planned_transfer(network, path)
    network.load_state_dict({**network.state_dict(), **transfer.tensors})
    return transfer


def check_start(job: Job, ndim: int, in_channels: int, heads: Mapping[str, int]) -> None:
    """Check before training that the weights to start from fit, and that the patterns of `freeze` and `rates` match weights.

    Raises:
        JobError: with all patterns and weights that do not.
    """
    path, training = job.network.from_, job.training
    path = None if path == AUTO else path
    if path is None and not training.freeze and not training.rates:
        return
    with torch.device("meta"):  # names and shapes suffice: no memory is allocated
        network = build_network(job.network, ndim, in_channels, heads)
    names = [name for name, _ in network.named_parameters()]
    problems = []
    if all(any(fnmatchcase(name, pattern) for pattern in training.freeze) for name in names):
        rule, remedy = "every weight of the network is frozen", "Freeze fewer parts."
        problems.append(Problem("training.freeze", rule, code="training.all_frozen", value=list(training.freeze), remedy=remedy))
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
    names = [name for name in own if name.split(".")[0] in _ENCODER]
    return names or [name for name in own if name.split(".")[0] not in ("outputs", "skips")]


def _values(own: Mapping[str, Tensor], names: Iterable[str]) -> int:
    return sum(own[name].numel() for name in names)


def _some(names: Iterable[str], limit: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _times(grid: Sequence[int]) -> str:
    return " x ".join(map(str, grid))


def _model_folder(path: Path) -> Path:
    return path / "model" if (path / "model").is_dir() else path


def _frozen(value: object) -> object:
    """Lists as tuples: options are compared and hashed."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
