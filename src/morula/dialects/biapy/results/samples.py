"""Samples of what a network is trained on: augmented patches, and the channels made of labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from morula.core.image import Image
from morula.core.location import stem_of
from morula.core.voxel_size import VoxelSize
from morula.data.patches import PatchDataset
from morula.dialects.biapy.results.links import is_free
from morula.dialects.biapy.settings import Settings
from morula.io.write import write
from morula.methods.base import Method
from morula.methods.restoring import Restoring
from morula.models.model import Model
from morula.workflows.predict_images import in_type

_NAMES = {
    "F": "foreground", "B": "background", "P": "central_part", "C": "contour", "T": "touching", "H": "horizontal_distance",
    "V": "vertical_distance", "Z": "z_distance", "Db": "distance_to_border", "Dc": "distance_to_center", "Dn": "distance_to_neighbor",
    "D": "distance", "R": "radial_distances", "A": "affinity", "E": "embedding_instances", "M": "CartoCell_M_channel",
}  # fmt: skip
"""What BiaPy calls the files of the channels."""
_FLOWS = {"z": ("Gz", "z_flow"), "y": ("Gv", "vertical_flow"), "x": ("Gh", "horizontal_flow")}
_STEPS = {
    "RANDOM_ROT": "rrot", "ROT90": "rot90", "SHEAR": "shear", "ZOOM": "zoom", "SHIFT": "shift", "VFLIP": "vflip", "HFLIP": "hflip",
    "ZFLIP": "zflip", "ELASTIC": "elastic", "G_BLUR": "gblur", "MEDIAN_BLUR": "mblur", "MOTION_BLUR": "motb",
    "GAMMA_CONTRAST": "gamma", "BRIGHTNESS": "brightness", "CONTRAST": "contrast", "DROPOUT": "dropout", "CUTOUT": "cutout",
    "CUTBLUR": "cblur", "CUTMIX": "cmix", "CUTNOISE": "cnoise", "GRIDMASK": "gridmask", "CHANNEL_SHUFFLE": "chshuffle",
    "GAUSSIAN_NOISE": "gaussian", "POISSON_NOISE": "poisson",
}  # fmt: skip


def augmentation_names(settings: Settings) -> str:
    """The switched augmentations of a job, as they are in the names of the samples.

    Examples:
        >>> augmentation_names(settings)  # doctest: +SKIP
        '_rrot(-180,180)_vflip_hflip'
    """
    used = [key for key in _STEPS if settings.flag(f"AUGMENTOR.{key}")] if settings.flag("AUGMENTOR.ENABLE") else []
    low, high = (settings.numbers("AUGMENTOR.RANDOM_ROT_RANGE") * 2)[:2]
    return "".join(f"_{_STEPS[key]}" + (f"({low:g},{high:g})" if key == "RANDOM_ROT" else "") for key in used)


def write_augmented(folder: Path, data: PatchDataset, *, number: int, names: str) -> None:
    """Write patches with and without augmentation: ``x`` what the network sees, ``y`` what it learns.

    Args:
        folder: gets ``{sample}_{patch}_orig_x{names}.tif`` and so on.
        data: the training patches.
        number: how many; patches are taken again in the next epoch where there are fewer.
        names: the augmentations, for the names of the files.
    """
    plain = replace(data, augmentations=())
    for sample in range(number):
        epoch, patch = divmod(sample, len(data))
        for prefix, source in (("orig_", plain), ("", data)):
            drawn = source.sample(epoch, patch)
            for letter, key in (("x", "image"), ("y", "targets")):
                if key in drawn:
                    _write(folder / f"{sample}_{patch}_{prefix}{letter}{names}.tif", drawn[key])


def write_channels(folder: Path, method: Method, labels: np.ndarray, voxel_size: VoxelSize | None) -> None:
    """Write the channels that a label image (Z)YX is converted to, and the labels."""
    for name, channel in channel_images(method, labels):
        _write(folder / f"vol_{name}.tif", channel, voxel_size)
    _write(folder / "vol_original_labels.tif", labels[None].astype(np.uint32 if labels.max(initial=0) > 65535 else np.uint16), voxel_size)


def write_degraded(folder: Path, model: Model, images: Iterable[Image]) -> None:
    """Write the degraded image of each image: what a network of the pretext task crappify gets.

    Args:
        folder: gets a file of the name of each image.
        model: the trained model.
        images: with their files as sources.
    """
    method = model.method
    assert isinstance(method, Restoring)
    for number, image in enumerate(images):
        own = image.canonical()
        scaling = model.scaling(image)
        # as in a prediction, the noise depends on the seed and the image alone
        task = method.task(scaling.apply(np.asarray(own)), np.random.default_rng((model.job.training.seed, number)))
        worse = in_type(method.in_units(task, scaling.undo), np.asarray(own).dtype)
        _write(folder / f"{stem_of(Path(str(image.source)))}.tif", worse, image.voxel_size)


def channel_images(method: Method, labels: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Name and image C(Z)YX of each channel that labels are converted to."""
    channels = _targets(method, labels)
    position = 0
    for representation in method.representations:  # type: ignore[attr-defined]
        width = representation.width(labels.ndim)
        own = channels[position : position + width]
        position += width
        if representation.code == "G":
            for axis, plane in zip("zyx"[-labels.ndim :], own, strict=True):
                code, name = _FLOWS[axis]
                yield f"{code}_{name}", plane[None]
        else:
            code = "E_offset" if representation.code == "E" else representation.code
            yield f"{code}_{_NAMES[representation.code]}", own


def channel_figures(method: Method, predicted: np.ndarray, labels: np.ndarray) -> Mapping[str, float]:
    """How well the channels of an image were predicted: IoU of masks above 0.5, mean absolute error of the others.

    Args:
        method: the method with its channels.
        predicted: predicted channels K(Z)YX.
        labels: true labels (Z)YX.
    """
    found: dict[str, float] = {}
    position = 0
    targets = _targets(method, labels)
    for representation in method.representations:  # type: ignore[attr-defined]
        span = slice(position, position + representation.width(labels.ndim))
        position = span.stop
        if representation.code == "E":  # its target is the labels, not a channel
            continue
        one, true = predicted[span], targets[span]
        name = representation.code.lower()
        if representation.code in ("F", "B", "P", "C", "T", "A", "M"):
            inside, wanted = one > 0.5, true > 0.5
            union = np.count_nonzero(inside | wanted)
            found[f"iou ({name} channel)"] = np.count_nonzero(inside & wanted) / union if union else 1.0
        else:
            found[f"l1 ({name} channel)"] = float(np.abs(one - true).mean(dtype=np.float64))
    return found


def _targets(method: Method, labels: np.ndarray) -> np.ndarray:
    """Channels that labels are converted to; ids have 32 bits, as in the training."""
    channels: np.ndarray = method.targets(labels.astype(np.uint32)).channels
    return channels


def _write(target: Path, image: np.ndarray, voxel_size: VoxelSize | None = None) -> None:
    """Write an image C(Z)YX; one channel without its axis."""
    if not is_free(target):
        return
    axes = ("CZYX" if image.ndim == 4 else "CYX")[1 if len(image) == 1 else 0 :]
    write(target, image[0] if len(image) == 1 else image, axes=axes, voxel_size=voxel_size)
