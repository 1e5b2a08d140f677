"""Networks, N-d in one class each, and the files that hold their weights."""

from morula.core.family import Family, Member

NETWORKS = Family(
    "network",
    {
        "unet": Member("morula.nn.unet:UNet", "morula.nn.options:UNetOptions", "U-Net: two convolutions a level"),
        "resunet": Member("morula.nn.unet:ResidualUNet", "morula.nn.options:ResidualUNetOptions", "U-Net of residual blocks"),
        "ordered_unet": Member(
            "morula.nn.ordered_unet:OrderedUNet",
            "morula.nn.options:OrderedUNetOptions",
            "U-Net with its layers in any order, as in pytorch-3dunet",
        ),
        "wnet": Member("morula.nn.wnet:WNet", "morula.nn.options:WNetOptions", "two U-Nets in series, trained without labels (WNet3D)"),
    },
    group="morula.networks",
)
