"""Weights of CellSeg3D's WNet3D (``wnet_latest.pth``, and those that its training writes) as native models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from morula.core.errors import ModelError
from morula.core.voxel_size import VoxelSize
from morula.dialects.converted import Value
from morula.jobs.load import validate
from morula.jobs.yaml_lines import Document
from morula.methods import METHODS
from morula.methods.wnet3d import SCALE
from morula.models.model import Model
from morula.nn.options import WNetOptions
from morula.nn.weights import fill, load_state_dict_file
from morula.nn.wnet import WNet

# down.0 is the finest level of the encoder, up.0 that of the decoder
_LEVELS = {"in_b": "down.0", "conv1": "down.1", "conv2": "down.2", "bot": "down.3", "out_b": "up.0", "deconv3": "up.1", "deconv2": "up.2"}
_ENLARGE = {"conv_trans_out": "enlarge.0", "conv_trans3": "enlarge.1", "conv_trans2": "enlarge.2"}
# numbers in torch.nn.Sequential; activations and dropout lie between and have no tensors
_OUTER = {0: "0.convolution", 3: "0.norm", 4: "1.convolution", 7: "1.norm"}
_INNER = {0: "0.convolution", 1: "0.mixing", 4: "0.norm", 5: "1.convolution", 6: "1.mixing", 9: "1.norm"}
_HALVES = ("encoder", "decoder")


def load_wnet(path: str | Path) -> WNet:
    """The network of a WNet3D checkpoint, in evaluation mode on the CPU.

    Its heads are ``classes`` (as many as the file has) and ``reconstruction``. Its input is scaled to 0 to 100.

    Args:
        path: a ``.pth`` file with the state of encoder and decoder.

    Raises:
        MissingFileError: when there is no such file.
        ModelError: when it is damaged, or contains other tensors than those of a WNet3D.

    Examples:
        >>> load_wnet("wnet_latest.pth").heads  # doctest: +SKIP
        {'classes': 2, 'reconstruction': 1}
    """
    tensors = load_state_dict_file(path)
    options = options_of(tensors, str(path))
    heads = {"classes": len(tensors["encoder.out_b.module.8.weight"]), "reconstruction": len(tensors["decoder.out_b.module.8.weight"])}
    network = WNet(options, ndim=3, in_channels=tensors["encoder.in_b.module.0.weight"].shape[1], heads=heads)
    fill(network, renamed(tensors), source=str(path))
    return network.eval()


def is_wnet(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the names of a WNet3D."""
    return {"encoder.in_b.module.0.weight", "encoder.out_b.module.8.weight", "decoder.out_b.module.8.weight"} <= set(tensors)


def options_of(tensors: Mapping[str, Tensor], source: str) -> WNetOptions:
    """Options of the network that these tensors belong to.

    Raises:
        ModelError: when they are no WNet3D.
    """
    if not is_wnet(tensors):
        raise ModelError(
            "checkpoint.not_wnet3d",
            "contains no WNet3D: the tensors of encoder.in_b, encoder.out_b or decoder.out_b are missing",
            remedy="Name a file that the WNet3D training of CellSeg3D wrote, such as wnet_latest.pth.",
            file=source,
        )
    # the width of a level is the number of output channels of its first convolution
    widths = [tensors.get(f"encoder.{name}.weight") for name in ("in_b.module.0", "conv1.module.1", "conv2.module.1", "bot.module.1")]
    return WNetOptions(features=tuple(len(width) for width in widths if width is not None))


def load_model(path: str | Path) -> Model:
    """A WNet3D checkpoint as a model that predicts and segments; intensities are scaled to 0 to 100 by percentiles of each image.

    Raises:
        MissingFileError: when there is no such file.
        ModelError: when it is damaged, or contains other tensors than those of a WNet3D.

    Examples:
        >>> labels = load_model("wnet_latest.pth").segment(morula.read("brain.tif"))  # doctest: +SKIP
    """
    network = load_wnet(path)
    options: Mapping[str, Value] = network.options.model_dump(mode="json", exclude={"kind", "from_"})
    job = validate(
        Document(
            {
                "images": {},
                "method": {"kind": "wnet3d", "classes": network.heads["classes"]},
                "network": {"kind": "wnet", **options},
                # CellSeg3D predicts windows of 64 voxels, and scales each image to 0 to 100
                "sampling": {"patch": [64, 64, 64], "normalise": {"kind": "percentile", **SCALE}},
            },
            {},
            str(path),
        )
    )
    voxel_size = VoxelSize.of(None, 3)
    method = METHODS.load("wnet3d")(job.method, job.objects, ndim=3, spacing=voxel_size.spacing(3))
    return Model(job, network, method, network.in_channels, voxel_size)


def names() -> Iterator[tuple[str, str]]:
    """Name of every tensor in WNet3D, and the native one."""
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
    """The tensors with native names; names that are not those of a WNet3D are kept."""
    table = dict(names())
    return {table.get(name, name): values for name, values in tensors.items()}


class WNet3DCheckpoint:
    """The `morula.models.checkpoint_formats.CheckpointFormat` of CellSeg3D's WNet3D weights."""

    @staticmethod
    def recognises(path: Path) -> bool:
        """Whether the file contains the state of a WNet3D."""
        return is_wnet(load_state_dict_file(path))

    @staticmethod
    def model(path: Path) -> Model:
        """The trained model."""
        return load_model(path)

    @staticmethod
    def network_options(path: Path) -> tuple[str, dict[str, Value]]:
        """Kind and options of the network."""
        return "wnet", options_of(load_state_dict_file(path), str(path)).model_dump(exclude={"from_"})

    @staticmethod
    def tensors(path: Path) -> dict[str, Tensor]:
        """Weights with native names."""
        return renamed(load_state_dict_file(path))
