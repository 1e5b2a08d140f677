"""Augmentations: first drawn into a record, then applied. The spatial ones become one warp of images and labels together."""

from morula.core.family import Family, Member


def _member(module: str, name: str, summary: str) -> Member:
    place = f"morula.data.augment.{module}"
    return Member(f"{place}:{name}", f"{place}:{name}Options", summary)


AUGMENTATIONS = Family(
    "augmentation",
    {
        "flip": _member("orient", "Flip", "mirror along axes; exact"),
        "rotate90": _member("orient", "Rotate90", "quarter turns in planes with square pixels and patch; exact"),
        "rotate": _member("affine", "Rotate", "turn by any angle, about z in 3D"),
        "zoom": _member("affine", "Zoom", "magnify or reduce"),
        "shear": _member("affine", "Shear", "slant"),
        "shift": _member("affine", "Shift", "move by a part of the patch"),
        "elastic": _member("elastic", "Elastic", "smooth random deformation"),
        "brightness": _member("intensity", "Brightness", "add a constant"),
        "contrast": _member("intensity", "Contrast", "stretch intensities about their mean"),
        "gamma": _member("intensity", "Gamma", "raise intensities to a power"),
        "colour": _member("colour", "Colour", "stretch and shift each channel by itself, as staining differs"),
        "gaussian_noise": _member("noise", "GaussianNoise", "add normally distributed noise"),
        "poisson_noise": _member("noise", "PoissonNoise", "photon counting noise"),
        "blur": _member("blur", "Blur", "Gaussian blur"),
        "cutout": _member("cutout", "Cutout", "cover boxes of the image, not of the labels"),
    },
    group="morula.augmentations",
)
