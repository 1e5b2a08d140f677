"""The networks of pytorch-3dunet and the names of their weights, on the native `OrderedUNet`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from morula.core.errors import DataError, ModelError, OptionError
from morula.core.options import validated
from morula.dialects.pytorch3dunet.keys import Section, Table, key
from morula.nn.options import Block, Edge, OrderedUNetOptions, Probability, Resizing
from morula.nn.ordered_unet import OrderedUNet
from morula.nn.weights import fill

UPSAMPLE = ("default", "nearest", "linear", "bilinear", "trilinear", "area", "deconv")
HEAD = "channels"


class NetworkOptions(Section):
    """The section ``model``.

    Attributes:
        ndim: number of spatial axes.
        block: kind of its blocks.
        levels: number of levels where the job states none.
    """

    native_form = "`network.kind: ordered_unet`"
    dead: ClassVar = {
        "conv_kernel_size": "the original never reads it from a job file. Write kernels for kernels of another size.",
        "pool_kernel_size": "the original never reads it from a job file. Write pools for poolings of another size.",
        "pool_type": "the original never reads it from a job file; levels are pooled by their maximum.",
        "se_module": "the original never reads it from a job file; squeeze and excitation is applied to channels and to voxels.",
        "basic_module": "the name of the network sets it.",
        "is3d": "the name of the network sets it.",
        "testing": "only versions before 1.3 read it.",
    }
    ndim: ClassVar[int] = 3
    block: ClassVar[Block]
    levels: ClassVar[int] = 5
    name: str = key(..., "Class of the network.")
    in_channels: PositiveInt = key(..., "Channels of the raw data.", native="read from the files")
    out_channels: PositiveInt = key(..., "Channels of the prediction.", native="`method.channels`, `method.classes`")
    final_sigmoid: bool = key(True, "Sigmoid of each channel; otherwise softmax over the channels.", native="that of the loss")
    is_segmentation: bool = key(True, "Whether there is a final activation.", native="false is refused")
    f_maps: PositiveInt | tuple[PositiveInt, ...] = key(
        64, "Channels of the first level, which are doubled at each level, or the channels of each level.", native="`network.features`"
    )
    num_levels: PositiveInt | None = key(
        None, "Number of levels where `f_maps` is one number; 4, or 5 in residual networks, when left out.", native="as `f_maps`"
    )
    layer_order: str = key("gcr", "Layers of a convolution, one letter each.", native="`network.order`")
    num_groups: PositiveInt | None = key(8, "Groups of group normalisation.", native="`network.groups`")
    conv_padding: int | tuple[int, ...] = key(
        1, "Padding of the convolutions outside residual blocks; 0 makes the output smaller.", native="others than 1 are refused"
    )
    conv_upscale: int = key(2, "Convolution of a block of the encoder that increases the channels: 1 or 2.", native="`network.widen`")
    upsample: Literal["default", "nearest", "linear", "bilinear", "trilinear", "area", "deconv", "none"] | None = key(
        "default", "How a level is resized to the next finer one.", native="`network.upsample`, `join`"
    )
    dropout_prob: Probability | tuple[Probability, Probability] = key(
        0.1, "Share of values that the layers d and D drop; two numbers for the two convolutions of a block.", native="`network.dropout`"
    )
    kernels: PositiveInt | tuple[Edge, ...] = key(3, "Kernel edges, one entry per level (not in the original).", native="`network.kernels`")
    pools: PositiveInt | tuple[Edge, ...] = key(
        2, "Pooling factors, one entry per pooling (not in the original).", native="`network.pools`"
    )

    def check(self) -> None:
        """See `Section.check`."""
        if min(self.conv_padding if isinstance(self.conv_padding, tuple) else (self.conv_padding,), default=0) < 0:
            raise OptionError("model.conv_padding", "must not be negative", key="conv_padding", value=self.conv_padding)
        if self.conv_upscale not in (1, 2):
            rule = "must be 1 or 2, because a block has two convolutions"
            raise OptionError("model.conv_upscale", rule, key="conv_upscale", value=self.conv_upscale)
        if isinstance(self.f_maps, tuple) and len(self.f_maps) < 2:
            remedy = "Write the channels of each level."
            raise OptionError("model.levels", "a U-Net has at least two levels", key="f_maps", value=self.f_maps, remedy=remedy)


class UNet3D(NetworkOptions):
    """Two convolutions a level."""

    block = "double"
    levels = 4


class ResidualUNet3D(NetworkOptions):
    """Residual blocks."""

    block = "residual"


class ResidualUNetSE3D(NetworkOptions):
    """Residual blocks with squeeze and excitation."""

    block = "residual_se"


class UNet2D(UNet3D):
    """UNet3D of two dimensions."""

    ndim = 2


class ResidualUNet2D(ResidualUNet3D):
    """ResidualUNet3D of two dimensions."""

    ndim = 2


class ResidualUNetSE2D(ResidualUNetSE3D):
    """ResidualUNetSE3D of two dimensions."""

    ndim = 2


_KINDS: tuple[type[NetworkOptions], ...] = (UNet3D, ResidualUNet3D, ResidualUNetSE3D, UNet2D, ResidualUNet2D, ResidualUNetSE2D)
NETWORKS: Table[NetworkOptions] = Table({kind.__name__: kind for kind in _KINDS})


class Model(nn.Module):
    """A network of pytorch-3dunet: a native network of one head, and the final activation.

    Attributes:
        network: the native network.
        activation: activation of the logits.
    """

    def __init__(self, network: OrderedUNet, activation: Literal["sigmoid", "softmax", "linear"], padding: tuple[int, ...] | None) -> None:
        super().__init__()
        self.network = network
        self.activation = activation
        self.padding = padding
        self._pad()

    def _pad(self) -> None:
        """Set the padding of all convolutions with kernels of more than one voxel, where it is not half of the kernel."""
        for part in self.network.modules():
            if isinstance(part, nn.Conv2d | nn.Conv3d) and max(part.kernel_size) > 1 and self.padding is not None:
                # the native network always pads by half the kernel
                part.padding = self.padding

    def logits(self, x: Tensor) -> Tensor:
        """Logits NK(Z)YX of images NC(Z)YX, before the final activation.

        Networks of two dimensions also accept NC1YX, the shape of patches of one plane, and return NK1YX.

        Raises:
            DataError: for images of other axes or channels, or too small for the number of levels.
        """
        # data sets give patches of one plane as volumes
        flat = self.network.ndim == 2 and x.ndim == 5 and x.shape[2] == 1
        image = x.squeeze(2) if flat else x
        if image.ndim != self.network.ndim + 2 or image.shape[1] != self.network.in_channels:
            axes = "NCYX or NC1YX" if self.network.ndim == 2 else "NCZYX"
            raise DataError(
                "image.axes",
                f"the network needs {axes} with {self.network.in_channels} channel(s), but the image has the shape {tuple(x.shape)}",
                remedy="Use images like those that the network was built for.",
            )
        # pooling would leave no voxel
        if any(n < least for n, least in zip(image.shape[2:], self.network.multiple, strict=True)):
            raise DataError(
                "image.too_small",
                f"{self.network.options.levels} levels need at least {self.network.multiple} voxels, but the image has "
                f"{tuple(image.shape[2:])}",
                remedy="Use larger images or fewer levels.",
            )
        logits = self.network.logits(image)[HEAD]
        return logits.unsqueeze(2) if flat else logits

    def forward(self, x: Tensor) -> Tensor:
        """Probabilities NK(Z)YX of images NC(Z)YX, in training and evaluation; without final activation the logits themselves."""
        return self.probabilities(self.logits(x))

    def probabilities(self, logits: Tensor) -> Tensor:
        """The logits after the final activation."""
        if self.activation == "linear":
            return logits
        return logits.sigmoid() if self.activation == "sigmoid" else logits.softmax(dim=1)

    def rebuild(self, upsample: Resizing) -> None:
        """Replace the network by one with new weights that upsamples in another way."""
        old = self.network
        options = old.options.model_copy(update={"upsample": upsample})
        place = next(old.parameters())
        fresh = OrderedUNet(options, ndim=old.ndim, in_channels=old.in_channels, heads=old.heads)
        self.network = fresh.to(device=place.device, dtype=place.dtype).train(old.training)
        self._pad()


def build_model(config: Mapping[str, object]) -> Model:
    """The network of the section ``model`` of a job file of pytorch-3dunet, with new weights from the global generator of torch.

    Args:
        config: that section.

    Raises:
        UnknownNameError: for a network that does not exist.
        OptionError: for a value that breaks a rule.

    Examples:
        >>> model = build_model({"name": "UNet2D", "in_channels": 1, "out_channels": 2, "f_maps": [8, 16]})
        >>> tuple(model(torch.zeros(1, 1, 33, 50)).shape)
        (1, 2, 33, 50)
    """
    return model_of(NETWORKS.read(config, "model"))


def model_of(section: NetworkOptions) -> Model:
    """The network of a checked section, see `build_model`."""
    network = OrderedUNet(network_options(section), ndim=section.ndim, in_channels=section.in_channels, heads={HEAD: section.out_channels})
    activation: Literal["sigmoid", "softmax", "linear"] = "sigmoid" if section.final_sigmoid else "softmax"
    return Model(network, activation if section.is_segmentation else "linear", _padding(section))


def network_options(section: NetworkOptions) -> OrderedUNetOptions:
    """Options of the native network for the section ``model`` of a job file.

    Raises:
        OptionError: for a value that breaks a rule.
    """
    if "g" in section.layer_order and section.num_groups is None:
        raise OptionError(
            "model.num_groups",
            f"model.num_groups is empty, but layer_order {section.layer_order!r} contains g",
            remedy="Write a number of groups.",
        )
    features = section.f_maps
    if isinstance(features, int):
        levels = section.num_levels or section.levels
        if levels < 2:
            raise OptionError("model.levels", f"model.num_levels is {levels}; a U-Net has at least two levels")
        features = tuple(features * 2**level for level in range(levels))
    # residual networks add the two branches of a level, the others concatenate them
    upsample, join = _upsampling(section)
    settings = {
        "features": features,
        "block": section.block,
        "order": section.layer_order,
        "groups": section.num_groups or 1,
        "dropout": section.dropout_prob,
        "widen": "first" if section.conv_upscale == 1 else "second",
        "kernels": section.kernels,
        "pools": section.pools,
        "upsample": upsample,
        "join": join,
    }
    return validated(OrderedUNetOptions, settings, "model")


def _upsampling(section: NetworkOptions) -> tuple[Resizing, Literal["concatenate", "add"]]:
    match section.upsample:
        case "default":
            return ("nearest", "concatenate") if section.block == "double" else ("stretch", "add")
        case "deconv":
            return "stretch", "concatenate"
        case "linear" | "bilinear" | "trilinear":
            return "linear", "concatenate"
        case "nearest" | "area":
            return section.upsample, "concatenate"
        case _:
            if section.pools != 1:
                raise OptionError(
                    "model.upsample",
                    "model.upsample is none, but pooled levels must be resized; the original fails here too",
                    remedy=f"Use one of {', '.join(UPSAMPLE)}.",
                )
            return "nearest", "concatenate"


def _padding(section: NetworkOptions) -> tuple[int, ...] | None:
    given = section.conv_padding
    if "conv_padding" not in section.model_fields_set or section.block != "double":  # residual blocks must keep the size
        return None
    padding = given if isinstance(given, tuple) else (given,) * section.ndim
    if len(padding) != section.ndim:
        raise OptionError(
            "model.conv_padding",
            f"model.conv_padding is {list(padding)}, but the network has {section.ndim} axes",
            remedy="Write one number per axis.",
        )
    return None if padding == (1,) * section.ndim else padding


# --- checkpoints -------------------------------------------------------------------------------------------------------------------------

# Names of the original, as regular expressions, and the native ones. Those of convolutions depend on the block, see `_BLOCKS`.
_NAMES = (
    (r"encoders.(\d+).basic_module.", "encoder.N."),
    (r"decoders.(\d+).basic_module.", "decoder.N.block."),
    (r"decoders.(\d+).upsampling.upsample.conv_transposed.", "decoder.N.resize.convolution."),
    ("final_conv.", f"outputs.{HEAD}."),
    (".se_module.cSE.fc1.", ".attention.squeeze."),
    (".se_module.cSE.fc2.", ".attention.excite."),
    (".se_module.sSE.conv.", ".attention.spatial."),
    (".groupnorm.", ".group_norm."),
    (".batchnorm.", ".batch_norm."),
    (".conv.", ".convolution."),
)
_BLOCKS = {
    "double": ((".SingleConv1.", ".first."), (".SingleConv2.", ".second.")),
    "residual": ((".conv1.", ".shortcut."), (".conv2.", ".first."), (".conv3.", ".second.")),
}


def _native(name: str) -> str:
    # since 1.8.2 transposed convolutions have a longer name
    name = re.sub(r"\.upsampling\.upsample\.(?!conv_transposed)", ".upsampling.upsample.conv_transposed.", name)
    for original, native in (*_NAMES, *_BLOCKS["double"], *_BLOCKS["residual"]):
        name = re.sub(original.replace(".", r"\."), native.replace("N", r"\1"), name)
    return name


def native_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a checkpoint by their names in the native network."""
    return {_native(name): values for name, values in tensors.items()}


def _own(module: nn.Module) -> Model:
    if not isinstance(module, Model):
        raise OptionError(
            "model.foreign_network", f"{type(module).__name__} is not a network of pytorch-3dunet", remedy="Build it with build_model."
        )
    return module


def load_state_dict(module: nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Load the weights of a checkpoint of pytorch-3dunet 1.4 to 1.9 into a network of `build_model`.

    Accepts a whole checkpoint or its ``model_state_dict``, with or without ``module.`` in front of the names. Up to 1.8.1, transposed
    convolutions returned exactly the requested size (up to 1.6.1 with a bias), and since then one voxel less. Where the network differs
    from the checkpoint, it is rebuilt, so load the weights before an optimiser gets the parameters.

    Args:
        module: a network of `build_model`; changed in place.
        state_dict: tensors by their names in the original, or the checkpoint that contains them.

    Raises:
        ModelError: naming weights that are missing, unknown or of another shape; the network stays as it was.
        OptionError: for a module that is not one of these networks.
    """
    module = _own(module)
    found: Any = state_dict
    for part in ("model_state_dict", "state_dict"):
        found = found[part] if isinstance(found.get(part), Mapping) else found
    named = {str(name).removeprefix("module."): values for name, values in found.items()}
    if not all(isinstance(values, Tensor) for values in named.values()):
        raise ModelError(
            "checkpoint.no_weights", "the checkpoint has no weights; tensors are expected, or a mapping of them under model_state_dict"
        )
    before = module.network
    way = _transposed_way(named)
    if way is not None and before.options.upsample in ("transpose", "stretch") and before.options.upsample != way:
        module.rebuild(way)
    # the native names are the same for all versions of the original
    tensors = native_names(named)
    if way == "transpose":  # 1.7.0 to 1.8.1: to the size, but without bias
        tensors = {name: torch.zeros_like(own) for name, own in module.network.state_dict().items() if _is_transposed_bias(name)} | tensors
    try:
        fill(module.network, tensors, source="the checkpoint")
    except ModelError as error:
        # a failed load must leave the network as it was, also after a rebuild
        module.network = before
        first = tensors.get("encoder.0.first.convolution.weight")
        if first is not None and first.ndim != before.ndim + 2:
            raise ModelError(
                "checkpoint.dimensions",
                f"the checkpoint is of a {first.ndim - 2}D network, but the job describes a {before.ndim}D network",
                remedy=f"Write the {first.ndim - 2}D name in model.name, as in the job of its training.",
            ) from error
        raise


def original_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a network under their names in pytorch-3dunet 1.8.2 and later.

    Raises:
        OptionError: for a module that is not one of these networks.

    Examples:
        >>> model = build_model({"name": "UNet2D", "in_channels": 1, "out_channels": 2, "f_maps": [8, 16]})
        >>> list(original_state_dict(model))[:2]
        ['encoders.0.basic_module.SingleConv1.groupnorm.weight', 'encoders.0.basic_module.SingleConv1.groupnorm.bias']
    """
    module = _own(module)
    block = _BLOCKS["double" if module.network.options.block == "double" else "residual"]
    found = {}
    for name, values in module.network.state_dict().items():
        for original, native in (*block, *_NAMES):
            name = re.sub(native.replace(".", r"\.").replace("N", r"(\d+)"), original.replace(r"(\d+)", r"\1"), name)
        found[name] = values
    if module.network.options.upsample == "transpose":
        found = {name.replace(".conv_transposed.", "."): values for name, values in found.items()}
    return found


def _transposed_way(names: Mapping[str, Tensor]) -> Literal["transpose", "stretch"] | None:
    """How the transposed convolutions of the checkpoint end; `None` where it has none."""
    if any(".upsampling.upsample.conv_transposed." in name for name in names):
        return "stretch"
    return "transpose" if any(".upsampling.upsample." in name for name in names) else None


def _is_transposed_bias(name: str) -> bool:
    return name.endswith(".resize.convolution.bias")
