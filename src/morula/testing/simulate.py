"""Simulated microscopy images with exact labels: touching nuclei or membranes in 2D and 3D, imaged through simple optics.

The demo, the tests and the benchmarks use it, so that nothing has to be downloaded. The image is formed as in a microscope: objects, stain,
uneven illumination, blur by the point spread function, background, photon noise, camera noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from morula.core.errors import OptionError

Kind: TypeAlias = Literal["nuclei", "membranes"]
KINDS = ("nuclei", "membranes")


@dataclass(frozen=True)
class Optics:
    """Parameters of the simulated microscope."""

    blur: float = 1.0
    """Standard deviation of the Gaussian point spread function in the plane, in pixels of the last axis."""
    axial_blur: float = 2.5
    """Length of the point spread function along z, relative to that in the plane."""
    photons: float = 150.0
    """Photons per voxel of the brightest structure."""
    haze: float = 0.12
    """Out-of-focus light, as a fraction of the light of the neighbourhood."""
    illumination: float = 0.3
    """Relative loss of illumination from the brightest to the darkest part of the image, 0 to 1."""
    offset: float = 100.0
    """Grey value of the camera without light."""
    gain: float = 4.0
    """Grey values per photon."""
    read_noise: float = 8.0
    """Standard deviation of the camera noise, in grey values."""


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulated image: `image` (Z)YX uint16, its `labels` (Z)YX uint16 or uint32 with ids 1 to n, `spacing` in array order."""

    image: np.ndarray
    labels: np.ndarray
    spacing: tuple[float, ...]


def simulate(
    kind: Kind = "nuclei",
    *,
    shape: Sequence[int],
    n_objects: int,
    rng: np.random.Generator,
    spacing: Sequence[float] | None = None,
    coverage: float | None = None,
    touching: float = 0.6,
    optics: Optics | None = None,
) -> Simulated:
    """Simulate an image of touching nuclei, or of a tissue of cells with stained membranes, and its labels.

    Object sizes follow from the number of objects and the fraction of the image that they cover. Objects that would be hidden by others are
    omitted, so that there are at most `n_objects`.

    Args:
        kind: ``"nuclei"`` (filled, textured) or ``"membranes"`` (bright walls between dark cells).
        shape: (Z)YX in voxels.
        n_objects: number of objects, 0 or more.
        rng: source of all randomness; the same state gives the same bytes.
        spacing: voxel edge lengths in array order; objects are round in physical space. Ones when `None`.
        coverage: fraction of the image that objects cover, between 0 and 1; 0.35 for nuclei and 0.85 for membranes when `None`.
        touching: fraction of the objects that are placed beside another one, 0 to 1.
        optics: the microscope.

    Raises:
        OptionError: for an unknown kind, a shape that is not 2D or 3D, or numbers outside their range.

    Examples:
        >>> nuclei = simulate("nuclei", shape=(64, 64), n_objects=8, rng=np.random.default_rng(0))
        >>> nuclei.image.dtype, nuclei.image.shape, int(nuclei.labels.max())
        (dtype('uint16'), (64, 64), 8)
    """
    spacing = _checked(kind, shape, n_objects, spacing)
    coverage = (0.35 if kind == "nuclei" else 0.85) if coverage is None else coverage
    if not (0 < coverage <= 1 and 0 <= touching <= 1):
        raise OptionError("simulate.fraction", f"coverage ({coverage}) and touching ({touching}) must be between 0 and 1")
    optics = Optics() if optics is None else optics
    scale = np.asarray(spacing) / spacing[-1]  # all lengths below are in pixels of the last axis
    fill = 1.35 if kind == "membranes" else 1.1  # overlapping neighbours lose a part of their size
    volume = float(np.prod(shape) * np.prod(scale))
    radius = _radius(fill * coverage * volume / max(n_objects, 1), len(shape))
    radii = radius * rng.lognormal(0.0, 0.14, n_objects)
    centres = _place(np.asarray(shape) * scale, radii, rng, touching=touching if kind == "nuclei" else 0.95)
    labels, first, second = grow(tuple(shape), scale, centres, radii, rng, stretch=0.16 if kind == "nuclei" else 0.08)
    labels = tidy(labels)
    stain = _nuclei(labels, first, scale, radius, rng) if kind == "nuclei" else _membranes(labels, second - first, scale, radius, rng)
    return Simulated(_photograph(stain, scale, optics, rng), labels, tuple(float(length) for length in spacing))


def simulate_data_set(
    folder: str | Path,
    kind: Kind = "nuclei",
    *,
    n_train: int = 16,
    n_test: int = 4,
    shape: Sequence[int] = (256, 256),
    n_objects: int = 60,
    seed: int = 0,
    spacing: Sequence[float] | None = None,
) -> Path:
    """Write ``train`` and ``test``, each with ``images/NAME.tif`` and ``labels/NAME.tif``, into a folder and return the folder.

    The number of objects varies by a quarter around `n_objects`. Image i of a split depends on (seed, split, i) only: a larger data set
    begins with the smaller one. The files state the voxel size (micrometres) when `spacing` is given.
    """
    from morula.io.write import write

    folder = Path(folder)
    for number, (split, count) in enumerate([("train", n_train), ("test", n_test)]):
        for index in range(count):
            rng = np.random.default_rng((seed, number, index))
            n = round(n_objects * rng.uniform(0.75, 1.25))
            made = simulate(kind, shape=shape, n_objects=n, rng=rng, spacing=spacing)
            for what, array in [("images", made.image), ("labels", made.labels)]:
                path = folder / split / what / f"{kind}_{index:03d}.tif"
                path.parent.mkdir(parents=True, exist_ok=True)
                write(path, array, axes="YX" if array.ndim == 2 else "ZYX", voxel_size=spacing, labels=what == "labels", overwrite=True)
    return folder


def _checked(kind: str, shape: Sequence[int], n_objects: int, spacing: Sequence[float] | None) -> tuple[float, ...]:
    if kind not in KINDS:
        raise OptionError("simulate.kind", f"must be one of {', '.join(KINDS)}", key="kind", value=kind)
    if len(shape) not in (2, 3) or min(shape) < 1:
        rule = "must have 2 (YX) or 3 (ZYX) lengths of at least 1 voxel"
        raise OptionError("simulate.shape", rule, key="shape", value=tuple(shape))
    if n_objects < 0:
        raise OptionError("simulate.count", "must be 0 or more", key="n_objects", value=n_objects)
    spacing = (1.0,) * len(shape) if spacing is None else tuple(spacing)
    if len(spacing) != len(shape) or min(spacing) <= 0:
        rule = f"must have one positive length per axis of the shape {tuple(shape)}"
        raise OptionError("simulate.spacing", rule, key="spacing", value=spacing)
    return spacing


def _radius(volume: float, ndim: int) -> float:
    """Radius of the disc or ball with this area or volume."""
    return math.sqrt(volume / math.pi) if ndim == 2 else (volume * 0.75 / math.pi) ** (1 / 3)


def _place(extent: np.ndarray, radii: np.ndarray, rng: np.random.Generator, *, touching: float) -> np.ndarray:
    """Centres (n, ndim) by dart throwing with a minimum distance, relaxed when no place is found; many aim beside an object."""
    centres = np.zeros((len(radii), len(extent)))
    for i, radius in enumerate(radii):
        closeness = 0.86
        for attempt in range(400):  # then the last place is taken, even if it overlaps: the number of objects is what was asked for
            if i and rng.random() < touching:
                j = rng.integers(i)
                step = rng.normal(size=len(extent))
                centre = centres[j] + step / np.linalg.norm(step) * (radius + radii[j]) * rng.uniform(closeness, closeness + 0.06)
            else:
                centre = rng.uniform(0, extent)
            if (centre < 0).any() or (centre >= extent).any():
                continue
            gap = np.linalg.norm(centres[:i] - centre, axis=1) - closeness * (radii[:i] + radius)
            if (gap >= 0).all():
                break
            if attempt % 40 == 39:  # crowded: allow more overlap
                closeness *= 0.93
        centres[i] = np.clip(centre, 0, extent - 1e-6)
    return centres


def smooth_field(shape: tuple[int, ...], scale: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """Random field (float32, mean 0, deviation 1) with a correlation length of `length` pixels: coarse noise, smoothly interpolated."""
    field: np.ndarray = rng.standard_normal([int(n * s / length) + 2 for n, s in zip(shape, scale, strict=True)], dtype=np.float32)
    for axis in np.argsort(shape):  # short axes first: the array stays small for longer
        n, size = shape[axis], len(shape)
        position = np.arange(n, dtype=np.float32) * np.float32(scale[axis] / length)
        whole = position.astype(np.intp)
        part = (position - whole).reshape([-1 if other == axis else 1 for other in range(size)])
        part = part * part * (3 - 2 * part)  # smoothstep: no creases at the points of the coarse grid
        low, high = np.take(field, whole, axis=axis), np.take(field, whole + 1, axis=axis)
        field = low + (high - low) * part
    field -= field.mean()
    deviation = float(field.std())
    return field / np.float32(deviation) if deviation > 0 else field


def grow(
    shape: tuple[int, ...], scale: np.ndarray, centres: np.ndarray, radii: np.ndarray, rng: np.random.Generator, *, stretch: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Assign each voxel to the nearest object, where distances are measured in the stretched and bent radii of the object.

    A voxel at a distance above 1 from all objects is background. Returns labels (uint32), and the smallest and the second smallest distance
    (float32, at most 1).
    """
    labels = np.zeros(shape, np.uint32)
    first, second = np.ones(shape, np.float32), np.ones(shape, np.float32)
    if not len(radii):
        return labels, first, second
    mean = float(radii.mean())
    bend = [smooth_field(shape, scale, 1.5 * mean, rng) * np.float32(0.085 * mean) for _ in shape]
    for i, (centre, radius) in enumerate(zip(centres, radii, strict=True), start=1):
        axes = rng.normal(size=(len(shape), len(shape)))
        rotation = np.linalg.qr(axes)[0]
        lengths = np.exp(rng.uniform(-stretch, stretch, len(shape)))
        # an ellipsoid with random axes and the volume of the ball: lengths are divided by their geometric mean
        metric = (rotation / (lengths / lengths.prod() ** (1 / len(shape)))) @ rotation.T / radius
        # the object is computed in its box only; the box allows for the stretched axes and the bending
        reach = radius * max(1 + 1.5 * stretch, math.exp(4 / 3 * stretch)) + 0.35 * mean
        low = np.maximum(np.floor((centre - reach) / scale), 0).astype(int)
        high = np.minimum(np.ceil((centre + reach) / scale) + 1, shape).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        grid = np.ogrid[box]
        offset = [
            g.astype(np.float32) * np.float32(s) - np.float32(c) + b[box] for g, s, c, b in zip(grid, scale, centre, bend, strict=True)
        ]
        square = np.zeros(offset[0].shape, np.float32)
        for row in metric.astype(np.float32):
            square += sum(factor * part for factor, part in zip(row, offset, strict=True)) ** 2
        measure = np.sqrt(square)
        old, older = first[box], second[box]
        nearer = measure < old
        second[box] = np.where(nearer, old, np.minimum(older, measure))
        first[box] = np.where(nearer, measure, old)
        labels[box][nearer] = i
    return labels, first, second


def tidy(labels: np.ndarray) -> np.ndarray:
    """Keep the largest piece of each object, remove tiny objects, and renumber from 1 to n in uint16 or uint32."""
    import cc3d

    pieces = cc3d.connected_components(labels, connectivity=4 if labels.ndim == 2 else 6)
    sizes = np.bincount(pieces.ravel())
    owner = np.zeros(len(sizes), np.int64)
    owner[pieces.ravel()] = labels.ravel()
    order = np.argsort(sizes, kind="stable")
    largest = np.zeros(int(owner.max()) + 1, np.int64)
    largest[owner[order]] = order  # in ascending order, so that the largest piece is written last
    kept = [piece for piece in largest[1:] if piece and sizes[piece] >= 4 * labels.ndim]
    table = np.zeros(len(sizes), np.uint16 if len(kept) < 2**16 else np.uint32)
    table[kept] = np.arange(1, len(kept) + 1)
    return table[pieces]


def _nuclei(labels: np.ndarray, first: np.ndarray, scale: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Stain of nuclei: thicker in the middle, of different brightness, with chromatin texture and a few dark nucleoli."""
    n = int(labels.max(initial=0))
    brightness = np.concatenate([[0.0], np.clip(rng.lognormal(-0.35, 0.3, n), 0.35, 1.3)]).astype(np.float32)
    dome = np.sqrt(np.maximum(1 - first * first, 0)) if labels.ndim == 2 else np.minimum(1, (1 - first) * 4)
    fine = smooth_field(labels.shape, scale, max(radius / 5, 1.5), rng)
    coarse = smooth_field(labels.shape, scale, max(radius / 2.2, 2.0), rng)
    nucleoli = 1 / (1 + np.exp(6 * (1.4 - coarse)))
    texture = 1 + 0.13 * fine + 0.10 * coarse - 0.45 * nucleoli
    return brightness[labels] * (0.35 + 0.65 * dome) * np.maximum(texture, 0.05)


def _membranes(labels: np.ndarray, gap: np.ndarray, scale: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Stain of membranes: unevenly stained walls between cells (where `gap` is 0) and at the outer face; dim cytoplasm."""
    wall = np.exp(-((gap * np.float32(0.5 * radius / 0.9)) ** 2))
    uneven = np.clip(0.8 + 0.2 * smooth_field(labels.shape, scale, max(radius / 1.5, 2.0), rng), 0.25, 1.2)
    cytoplasm = 0.12 + 0.03 * smooth_field(labels.shape, scale, max(radius / 4, 1.5), rng)
    return np.where(labels > 0, np.maximum(cytoplasm, 0.02) + 0.88 * wall * uneven, 0.02).astype(np.float32)


def _photograph(stain: np.ndarray, scale: np.ndarray, optics: Optics, rng: np.random.Generator) -> np.ndarray:
    """Image of a stain through the microscope, in grey values (uint16)."""
    from scipy.ndimage import gaussian_filter, uniform_filter

    ndim = stain.ndim
    widths = np.array([optics.blur * optics.axial_blur] * (ndim - 2) + [optics.blur] * 2) / scale
    light = gaussian_filter(stain, widths, mode="reflect", truncate=3.0)
    if optics.haze:
        sizes = np.maximum(np.rint(24 * optics.blur / scale), 1).astype(int).tolist()
        # two box filters approximate a wide Gaussian at a cost that does not depend on its width
        light = (1 - optics.haze) * light + optics.haze * uniform_filter(uniform_filter(light, sizes), sizes)
    extent = np.asarray(stain.shape) * scale
    lamp = smooth_field(stain.shape, scale, max(float(extent[-2:].max()), 2.0) / 2, rng)
    low, high = float(lamp.min()), float(lamp.max())
    lamp = 1 - optics.illumination * (lamp - low) / max(high - low, 1e-6)
    # 2 photons of dark background: without them, empty voxels would have no photon noise
    photons = rng.poisson(optics.photons * lamp * light + 2.0)
    grey = optics.offset + optics.gain * photons + optics.read_noise * rng.standard_normal(stain.shape, dtype=np.float32)
    return np.clip(np.rint(grey), 0, 65535).astype(np.uint16)
