"""Augmentations, drawn at random into a record and then applied.

Whatever their order in the list, a patch is changed in this order: all spatial augmentations are composed into one warp, so that image
and labels are interpolated once; then flips and quarter turns, which are exact; then changes of intensity in the order of the list.
"""

from morula.core.family import Family, Member


def _member(module: str, name: str, summary: str) -> Member:
    place = f"morula.data.augment.{module}"
    return Member(f"{place}:{name}", f"{place}:{name}Options", summary)


AUGMENTATIONS = Family(
    "augmentation",
    {
        "flip": _member("orient", "Flip", "flip along axes; exact"),
        "rotate90": _member("orient", "Rotate90", "rotate by multiples of 90 degrees in planes with square pixels and patches; exact"),
        "rotate": _member("affine", "Rotate", "rotate by any angle, about z in 3D"),
        "zoom": _member("affine", "Zoom", "scale"),
        "shear": _member("affine", "Shear", "shear"),
        "shift": _member("affine", "Shift", "translate by a share of the patch"),
        "elastic": _member("elastic", "Elastic", "smooth random deformation"),
        "elastic_noise": _member("elastic_noise", "ElasticNoise", "random deformation by smoothed noise, in voxels"),
        "brightness": _member("intensity", "Brightness", "add a constant"),
        "contrast": _member("intensity", "Contrast", "scale intensities about their mean"),
        "gamma": _member("intensity", "Gamma", "raise intensities to a power"),
        "colour": _member("colour", "Colour", "scale and shift every channel independently, as staining varies"),
        "gaussian_noise": _member("noise", "GaussianNoise", "add normally distributed noise"),
        "poisson_noise": _member("noise", "PoissonNoise", "photon counting noise"),
        "poisson_offset": _member("noise", "PoissonOffset", "add Poisson distributed noise that does not depend on the image"),
        "blur": _member("blur", "Blur", "Gaussian blur"),
        "cutout": _member("cutout", "Cutout", "hide boxes of the image; the labels stay"),
        "dropout": _member("dropout", "Dropout", "set single voxels to 0; the labels stay"),
        "cutblur": _member("cutblur", "CutBlur", "lower the resolution of a rectangle; the labels stay"),
        "shuffle_channels": _member("shuffle_channels", "ShuffleChannels", "put the channels in a random order"),
        "gridmask": _member("gridmask", "GridMask", "hide the squares of a grid; the labels stay"),
    },
    group="morula.augmentations",
)
