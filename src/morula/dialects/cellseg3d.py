"""The WNet3D weights of CellSeg3D (``wnet_latest.pth`` and those that its training writes), on the native `WNet`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from morula.core.errors import ModelError
from morula.nn.options import WNetOptions
from morula.nn.weights import fill, load_state_dict_file
from morula.nn.wnet import WNet

_LEVELS = {"in_b": "down.0", "conv1": "down.1", "conv2": "down.2", "bot": "down.3", "out_b": "up.0", "deconv3": "up.1", "deconv2": "up.2"}
_ENLARGE = {"conv_trans_out": "enlarge.0", "conv_trans3": "enlarge.1", "conv_trans2": "enlarge.2"}
_OUTER = {0: "0.convolution", 3: "0.norm", 4: "1.convolution", 7: "1.norm"}
_INNER = {0: "0.convolution", 1: "0.mixing", 4: "0.norm", 5: "1.convolution", 6: "1.mixing", 9: "1.norm"}
_HALVES = ("encoder", "decoder")


def load_wnet(path: str | Path) -> WNet:
    """The network of a WNet3D checkpoint, in evaluation mode on the CPU, with as many classes as the file has.

    Its heads are ``classes`` and ``reconstruction``; it takes one channel (the file's number of them) scaled to 0 to 100.

    Args:
        path: a ``.pth`` file with the state of encoder and decoder.

    Raises:
        MissingFileError: when there is no such file.
        ModelError: when it is damaged, or holds other tensors than a WNet3D.

    Examples:
        >>> load_wnet("wnet_latest.pth").heads  # doctest: +SKIP
        {'classes': 2, 'reconstruction': 1}
    """
    tensors = load_state_dict_file(path)
    network = WNet(options_of(tensors, str(path)), ndim=3, **_shape_of(tensors))
    fill(network, renamed(tensors), source=str(path))
    return network.eval()


def is_wnet(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors bear WNet3D's names."""
    return {"encoder.in_b.module.0.weight", "encoder.out_b.module.8.weight", "decoder.out_b.module.8.weight"} <= set(tensors)


def options_of(tensors: Mapping[str, Tensor], source: str) -> WNetOptions:
    """Options of the network that these tensors belong to.

    Raises:
        ModelError: when they are no WNet3D.
    """
    if not is_wnet(tensors):
        raise ModelError(
            f"{source} holds no WNet3D: it lacks the tensors of encoder.in_b, encoder.out_b or decoder.out_b. "
            "Name a file that CellSeg3D's WNet3D training wrote, such as wnet_latest.pth."
        )
    widths = [tensors.get(f"encoder.{name}.weight") for name in ("in_b.module.0", "conv1.module.1", "conv2.module.1", "bot.module.1")]
    return WNetOptions(features=tuple(len(width) for width in widths if width is not None))


def _shape_of(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    image = tensors["encoder.in_b.module.0.weight"].shape[1]
    heads = {"classes": len(tensors["encoder.out_b.module.8.weight"]), "reconstruction": len(tensors["decoder.out_b.module.8.weight"])}
    return {"in_channels": image, "heads": heads}


def names() -> Iterator[tuple[str, str]]:
    """WNet3D's name and ours of every tensor."""
    for half in _HALVES:
        for block, level in _LEVELS.items():
            outer = block in ("in_b", "out_b")
            for place, part in (_OUTER if outer else _INNER).items():
                for kind in ("weight", "bias"):
                    yield f"{half}.{block}.module.{place}.{kind}", f"{half}.{level}.{part}.{kind}"
        for block, part in _ENLARGE.items():
            for kind in ("weight", "bias"):
                yield f"{half}.{block}.{kind}", f"{half}.{part}.convolution.{kind}"
        for kind in ("weight", "bias"):
            yield f"{half}.out_b.module.8.{kind}", f"{half}.output.{kind}"


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under our names; names that are not WNet3D's stay as they are."""
    table = dict(names())
    return {table.get(name, name): values for name, values in tensors.items()}


class WNet3DCheckpoint:
    """The `morula.models.checkpoint_formats.CheckpointFormat` of CellSeg3D's WNet3D weights."""

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether the file holds the state of a network; whether it is a WNet3D is found when it is used."""
        load_state_dict_file(path)
        return True

    @staticmethod
    def network_options(path: Path) -> tuple[str, dict[str, Any]]:
        """Kind and options of the network."""
        return "wnet", options_of(load_state_dict_file(path), str(path)).model_dump(exclude={"from_"})

    @staticmethod
    def tensors(path: Path) -> dict[str, Tensor]:
        """Weights by the names of the native network."""
        return renamed(load_state_dict_file(path))
