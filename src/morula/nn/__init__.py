"""Networks, N-d in one class each, and the files that hold their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from morula.core.family import Family, Member

if TYPE_CHECKING:
    from morula.nn import build as build
    from morula.nn import mae as mae
    from morula.nn import weights as weights

NETWORKS = Family(
    "network",
    {
        "unet": Member("morula.nn.unet:UNet", "morula.nn.options:UNetOptions", "U-Net: two convolutions per level"),
        "resunet": Member("morula.nn.unet:ResidualUNet", "morula.nn.options:ResidualUNetOptions", "U-Net of residual blocks"),
        "ordered_unet": Member(
            "morula.nn.ordered_unet:OrderedUNet",
            "morula.nn.options:OrderedUNetOptions",
            "U-Net with layers in any order, as in pytorch-3dunet",
        ),
        "wnet": Member("morula.nn.wnet:WNet", "morula.nn.options:WNetOptions", "two U-Nets in series, trained without labels (WNet3D)"),
        "classic_unet": Member(
            "morula.nn.classic_unet:ClassicUNet",
            "morula.nn.unet_options:ClassicUNetOptions",
            "U-Net with biases and normalised upsampling, as in BiaPy",
        ),
        "attention_unet": Member(
            "morula.nn.attention_unet:AttentionUNet",
            "morula.nn.unet_options:AttentionUNetOptions",
            "U-Net whose skips pass attention gates",
        ),
        "seunet": Member("morula.nn.seunet:SEUNet", "morula.nn.unet_options:SEUNetOptions", "U-Net with squeeze and excitation"),
        "preactivation_unet": Member(
            "morula.nn.preactivation_unet:PreactivationUNet",
            "morula.nn.unet_options:PreactivationUNetOptions",
            "residual U-Net of pre-activation blocks, as in BiaPy",
        ),
        "resunet_se": Member(
            "morula.nn.preactivation_unet:ResUNetSE",
            "morula.nn.unet_options:ResUNetSEOptions",
            "residual U-Net with squeeze and excitation",
        ),
        "resunetpp": Member(
            "morula.nn.resunetpp:ResUNetPlus",
            "morula.nn.unet_options:ResUNetPlusOptions",
            "ResUNet++: excitation, attention and dilated pyramids",
        ),
        "multiresunet": Member(
            "morula.nn.multiresunet:MultiResUNet",
            "morula.nn.unet_options:MultiResUNetOptions",
            "U-Net of blocks with three receptive fields",
        ),
        "unext_v1": Member("morula.nn.unext:UNeXtV1", "morula.nn.unet_options:UNeXtV1Options", "U-Net of ConvNeXt blocks"),
        "unext_v2": Member("morula.nn.unext:UNeXtV2", "morula.nn.unet_options:UNeXtV2Options", "U-Net of ConvNeXt V2 blocks"),
        "residual_encoder_unet": Member(
            "morula.nn.residual_encoder:ResidualEncoderUNet",
            "morula.nn.unet_options:ResidualEncoderUNetOptions",
            "deep residual encoder, light decoder, as in nnU-Net",
        ),
        "hrnet": Member(
            "morula.nn.hrnet:HRNet",
            "morula.nn.hrnet_options:HRNetOptions",
            "parallel branches of all resolutions that exchange their results",
        ),
        "unetr": Member(
            "morula.nn.unetr:UNETR", "morula.nn.transformer_options:UNETROptions", "vision transformer with the decoder of a U-Net"
        ),
        "mae": Member("morula.nn.mae:MAE", "morula.nn.transformer_options:MAEOptions", "masked autoencoder of vision transformers"),
        "edsr": Member("morula.nn.edsr:EDSR", "morula.nn.restoration_options:EDSROptions", "plain residual blocks, for image restoration"),
        "rcan": Member(
            "morula.nn.rcan:RCAN",
            "morula.nn.restoration_options:RCANOptions",
            "residual groups with channel attention, for image restoration",
        ),
        "wdsr": Member("morula.nn.wdsr:WDSR", "morula.nn.restoration_options:WDSROptions", "wide activations, for image restoration"),
        "dfcan": Member(
            "morula.nn.dfcan:DFCAN", "morula.nn.restoration_options:DFCANOptions", "attention to spectra, for image restoration"
        ),
    },
    group="morula.networks",
)

# imported when they are first used, as the modules of `morula.workflows`: they import torch
__getattr__, _, _ = lazy_loader.attach(__name__, submodules=["build", "mae", "weights"])
