"""Methods: what a job's `method.kind` names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

from morula.core.family import Family, Member

if TYPE_CHECKING:
    from morula.methods import loss_sums as loss_sums
    from morula.methods import wnet3d_loss as wnet3d_loss

METHODS = Family(
    "method",
    {
        "channels": Member(
            "morula.methods.channels:Channels",
            "morula.methods.channel_options:Options",
            "instances through predicted channels (F, C, Db, ...)",
        ),
        "semantic": Member("morula.methods.semantic:Semantic", "morula.methods.semantic_options:Options", "a class for every pixel"),
        "regression": Member(
            "morula.methods.regression:Regression",
            "morula.methods.regression_options:Options",
            "images from images: another stain, less noise, or several masks",
        ),
        "wnet3d": Member("morula.methods.wnet3d:WNet3D", "morula.methods.wnet3d_options:Options", "objects without a label (WNet3D)"),
        "masked_autoencoder": Member(
            "morula.methods.masked_autoencoder:MaskedAutoencoder",
            "morula.methods.masked_autoencoder_options:Options",
            "pretraining without labels: a network reconstructs hidden boxes of the image",
        ),
        "crappify": Member(
            "morula.methods.crappify:Crappify",
            "morula.methods.crappify_options:Options",
            "pretraining without labels: a network reconstructs the image from a degraded one",
        ),
        "noise2void": Member(
            "morula.methods.noise2void:Noise2Void",
            "morula.methods.noise2void_options:Options",
            "images with less noise, learned without clean images",
        ),
    },
    group="morula.methods",
)

# imported when they are first used, as the modules of `morula.workflows`: methods are built without torch, their losses need it
__getattr__, _, _ = lazy_loader.attach(__name__, submodules=["loss_sums", "wnet3d_loss"])
