"""Simulated volumes of nuclei under varied conditions (domain randomisation), for networks that must work on images they never saw.

Each volume has its own microscope, specimen and sampling: `draw_conditions` draws them into a record, `simulate_varied` makes the volume.
The ranges are wider than those of real data sets, so that a real volume is one more variation (Tobin et al. 2017,
https://arxiv.org/abs/1703.06907).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np

from morula.testing.simulate import Simulated, grow, smooth_field, tidy

Arrangement: TypeAlias = Literal["everywhere", "ball", "shell", "layer"]


@dataclass(frozen=True)
class Conditions:
    """What one volume is like. Lengths are in mean diameters of its nuclei, brightness in that of a mean nucleus."""

    diameter: float = 14.0
    """Mean diameter of the nuclei in pixels of the last axis."""
    anisotropy: float = 2.0
    """Length of a voxel along z, relative to that in the plane."""
    arrangement: Arrangement = "everywhere"
    """Where nuclei lie: everywhere, in a ball, in the shell of a ball, or in a layer."""
    coverage: float = 0.2
    """Fraction of that place that nuclei cover."""
    touching: float = 0.5
    """Fraction of the nuclei that are placed beside another one."""
    closeness: float = 0.9
    """Smallest distance of two centres, relative to the sum of the radii."""
    size_spread: float = 0.15
    """Standard deviation of the logarithm of the radii."""
    stretch: float = 0.2
    """Largest logarithm of the ratio of a semi-axis to the radius."""
    z_stretch: float = 1.0
    """Length of all nuclei along z, relative to that in the plane."""
    condensed: float = 0.0
    """Fraction of the nuclei that are small and bright, as in mitosis."""
    brightness_spread: float = 0.3
    """Standard deviation of the logarithm of the brightness of the nuclei."""
    edge: float = 4.0
    """Steepness of the stain at the surface: 1 is a dome, 8 is almost a step."""
    texture: float = 0.15
    """Standard deviation of the chromatin texture."""
    nucleoli: float = 0.3
    """Darkness of the nucleoli."""
    blur: float = 0.05
    """Standard deviation of the point spread function in the plane."""
    axial_blur: float = 2.5
    """Length of the point spread function along z, relative to that in the plane."""
    haze: float = 0.1
    """Fraction of the light that is out of focus."""
    background: float = 0.1
    """Brightness of empty space."""
    specimen: float = 0.1
    """Brightness of the specimen between the nuclei; it is uneven."""
    attenuation: float = 0.3
    """Fraction of the light that is lost from the first to the last plane; negative: from the last to the first."""
    stripes: float = 0.0
    """Standard deviation of the brightness between lines along z, as shadows in a light sheet."""
    debris: int = 0
    """Number of small, bright specks that are no nuclei."""
    photons: float = 30.0
    """Photons of a mean nucleus in a cube of a tenth of its diameter."""
    read_noise: float = 0.02
    """Standard deviation of the camera noise."""


def draw_conditions(rng: np.random.Generator) -> Conditions:
    """Conditions of one volume, all independent of each other except for limits that keep nuclei visible.

    Examples:
        >>> drawn = draw_conditions(np.random.default_rng(0))
        >>> drawn == draw_conditions(np.random.default_rng(0)), 1 <= drawn.anisotropy <= 5
        (True, True)
    """
    blur = _log_uniform(rng, 0.02, 0.14)
    diameter = _log_uniform(rng, 5, 18)
    return Conditions(
        diameter=diameter,
        anisotropy=_log_uniform(rng, 1, min(5.0, diameter / 3.0)),
        arrangement=get_args(Arrangement)[rng.choice(4, p=[0.4, 0.25, 0.2, 0.15])],
        coverage=_log_uniform(rng, 0.03, 0.5),
        touching=rng.uniform(0, 1),
        closeness=rng.uniform(0.72, 1.0),
        size_spread=rng.uniform(0.05, 0.4),
        stretch=rng.uniform(0.05, 0.8),
        z_stretch=_log_uniform(rng, 0.65, 1.9),
        condensed=rng.uniform(0, 0.15) * (rng.random() < 0.5),
        brightness_spread=rng.uniform(0.05, 0.5),
        edge=_log_uniform(rng, 1.2, 8),
        texture=rng.uniform(0, 0.35),
        nucleoli=rng.uniform(0, 0.6),
        blur=blur,
        axial_blur=rng.uniform(1, min(4.0, 0.3 / blur)),
        haze=rng.uniform(0, 0.35),
        background=rng.uniform(0, 0.4),
        specimen=rng.uniform(0, 0.45),
        attenuation=rng.uniform(-0.5, 0.85),
        stripes=rng.uniform(0, 0.2) * (rng.random() < 0.3),
        debris=int(rng.integers(0, 8) * (rng.random() < 0.4)),
        photons=_log_uniform(rng, 4, 200),
        read_noise=rng.uniform(0, 0.1),
    )


def simulate_varied(conditions: Conditions, *, extent: tuple[float, float, float], rng: np.random.Generator) -> Simulated:
    """Simulate a volume of nuclei under the given conditions.

    Args:
        conditions: what the volume is like.
        extent: edges Z, Y, X in mean diameters of the nuclei.
        rng: source of all further randomness; the same state gives the same bytes.

    Returns:
        image (uint16), labels and spacing; the image is sampled as the conditions say.

    Examples:
        >>> made = simulate_varied(Conditions(diameter=8), extent=(3, 4, 4), rng=np.random.default_rng(0))
        >>> made.image.shape, made.spacing
        ((12, 32, 32), (2.0, 1.0, 1.0))
    """
    spacing = (conditions.anisotropy, 1.0, 1.0)
    shape = tuple(max(1, round(edge * conditions.diameter / step)) for edge, step in zip(extent, spacing, strict=True))
    # nuclei that are longer along z are round ones in a space with shorter voxels
    scale = np.array([conditions.anisotropy / conditions.z_stretch, 1.0, 1.0])
    place = _place_of(conditions, np.asarray(shape) * scale, rng)
    centres, radii = _nuclei_in(place, conditions, np.asarray(shape) * scale, rng)
    dense = rng.random(len(radii)) < conditions.condensed
    radii = np.where(dense, 0.65 * radii, radii)
    labels, first, _ = grow(shape, scale, centres, radii, rng, stretch=conditions.stretch)
    brightness = rng.lognormal(-0.5 * conditions.brightness_spread**2, conditions.brightness_spread, len(radii)) * np.where(dense, 1.8, 1)
    stain = _stain(np.concatenate([[0.0], brightness])[labels], first, scale, conditions, rng)
    stain += _specimen(place, shape, scale, conditions, rng) * (labels == 0)
    _add_debris(stain, scale, conditions, rng)
    return Simulated(_grey(_light(stain, np.asarray(spacing), conditions, rng), conditions, rng), tidy(labels), spacing)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


@dataclass(frozen=True)
class _Place:
    """A ball, shell or layer: `depth` of points is positive inside."""

    arrangement: Arrangement
    centre: np.ndarray
    radius: float
    thickness: float

    def depth(self, points: np.ndarray) -> np.ndarray:
        """How deep points (..., 3) lie below the surface, in pixels."""
        if self.arrangement == "everywhere":
            return np.full(points.shape[:-1], np.inf)
        if self.arrangement == "layer":
            return np.asarray(self.thickness / 2 - np.abs(points[..., 0] - self.centre[0]))
        distance = np.linalg.norm(points - self.centre, axis=-1)
        return np.asarray(self.radius - distance if self.arrangement == "ball" else self.thickness / 2 - np.abs(distance - self.radius))


def _place_of(conditions: Conditions, extent: np.ndarray, rng: np.random.Generator) -> _Place:
    centre = extent * rng.uniform(0.3, 0.7, 3)
    radius = float(rng.uniform(0.3, 0.65) * extent.max())
    return _Place(conditions.arrangement, centre, radius, float(rng.uniform(1.2, 2.5) * conditions.diameter))


def _nuclei_in(place: _Place, conditions: Conditions, extent: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Centres (n, 3) and radii (n,) of nuclei in the place; those that find no room are left out."""
    points = rng.uniform(0, 1, (4096, 3)) * extent
    inside = points[place.depth(points) > 0]
    ball = math.pi / 6 * conditions.diameter**3
    wanted = rng.poisson(conditions.coverage * len(inside) / len(points) * extent.prod() / ball) if len(inside) else 0
    centres: list[np.ndarray] = []
    radii: list[float] = []
    for _ in range(min(wanted, 1500)):
        radius = 0.5 * conditions.diameter * rng.lognormal(0, conditions.size_spread)
        for _attempt in range(60):
            if centres and rng.random() < conditions.touching:
                other = rng.integers(len(centres))
                step = rng.normal(size=3)
                apart = (radius + radii[other]) * conditions.closeness * rng.uniform(1, 1.1)
                centre = centres[other] + step / np.linalg.norm(step) * apart
            else:
                centre = inside[rng.integers(len(inside))] + rng.normal(size=3) * 0.3 * conditions.diameter
            if (centre < 0).any() or (centre >= extent).any() or place.depth(centre) < 0:
                continue
            if (
                not centres
                or (np.linalg.norm(np.array(centres) - centre, axis=1) >= conditions.closeness * (np.array(radii) + radius)).all()
            ):
                centres.append(centre)
                radii.append(radius)
                break
    return np.array(centres).reshape(-1, 3), np.array(radii)


def _stain(brightness: np.ndarray, first: np.ndarray, scale: np.ndarray, conditions: Conditions, rng: np.random.Generator) -> np.ndarray:
    """Stain of the nuclei: softer at the surface, with chromatin texture and dark nucleoli."""
    radius = conditions.diameter / 2
    profile = np.minimum(1, (1 - first) * np.float32(conditions.edge))
    fine = smooth_field(first.shape, scale, max(radius / 4, 1.0), rng)
    coarse = smooth_field(first.shape, scale, max(radius / 1.8, 1.5), rng)
    nucleoli = 1 / (1 + np.exp(6 * (1.3 - coarse)))
    texture = 1 + np.float32(conditions.texture) * (0.7 * fine + 0.7 * coarse) - np.float32(conditions.nucleoli) * nucleoli
    return np.asarray(brightness * (0.3 + 0.7 * profile) * np.maximum(texture, 0.05), np.float32)


def _specimen(place: _Place, shape: tuple[int, ...], scale: np.ndarray, conditions: Conditions, rng: np.random.Generator) -> np.ndarray:
    """Light of the specimen between the nuclei, in the place where nuclei lie and a little around it; uneven on several scales."""
    grid = np.stack(np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, scale, strict=True)), indexing="ij"), axis=-1)
    inside = 1 / (1 + np.exp(-np.clip(place.depth(grid) / (0.2 * conditions.diameter) + 2, -30, 30)))
    uneven = 0.35 * smooth_field(shape, scale, max(conditions.diameter, 2.0), rng) + 0.2 * smooth_field(
        shape, scale, max(conditions.diameter / 3, 1.0), rng
    )
    return np.asarray(conditions.specimen * inside * np.maximum(1 + uneven, 0), np.float32)


def _add_debris(stain: np.ndarray, scale: np.ndarray, conditions: Conditions, rng: np.random.Generator) -> None:
    """Add bright specks, smaller than nuclei, to the stain."""
    for _ in range(conditions.debris):
        centre = rng.uniform(0, 1, 3) * stain.shape * scale
        radius = conditions.diameter * rng.uniform(0.05, 0.16)
        reach = 3 * radius + 1
        low = np.maximum(np.floor((centre - reach) / scale), 0).astype(int)
        high = np.minimum(np.ceil((centre + reach) / scale) + 1, stain.shape).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        square = sum(((g * s - c) / radius) ** 2 for g, s, c in zip(np.ogrid[box], scale, centre, strict=True))
        stain[box] += np.float32(_log_uniform(rng, 1, 6)) * np.exp(-0.5 * np.asarray(square, np.float32))


def _light(stain: np.ndarray, scale: np.ndarray, conditions: Conditions, rng: np.random.Generator) -> np.ndarray:
    """Light that reaches the camera: blurred, with haze, weaker in depth, with stripes along z, above the background."""
    from scipy.ndimage import gaussian_filter, uniform_filter

    width = conditions.blur * conditions.diameter
    light = gaussian_filter(stain, np.array([width * conditions.axial_blur, width, width]) / scale, mode="reflect", truncate=3.0)
    sizes = np.maximum(np.rint(1.2 * conditions.diameter / scale), 1).astype(int).tolist()
    light = (1 - conditions.haze) * light + conditions.haze * uniform_filter(uniform_filter(light, sizes), sizes)
    depth = np.linspace(0, 1, len(light), dtype=np.float32)[:, None, None]
    lost = abs(conditions.attenuation)
    light *= (1 - lost) ** (depth if conditions.attenuation > 0 else 1 - depth)
    light += np.float32(conditions.background)
    if conditions.stripes:
        lines = smooth_field(light.shape, scale * [0.05, 1, 1], max(0.25 * conditions.diameter, 1.0), rng)
        light *= np.maximum(1 + np.float32(conditions.stripes) * lines, 0.1)
    return np.asarray(light)


def _grey(light: np.ndarray, conditions: Conditions, rng: np.random.Generator) -> np.ndarray:
    """Grey values of the light: photon and camera noise, 1000 grey values for a mean nucleus."""
    cube = (0.1 * conditions.diameter) ** 3 / conditions.anisotropy  # voxels in a cube of a tenth of the diameter
    photons = max(conditions.photons / cube, 0.5)
    seen = rng.poisson(photons * light) / photons + conditions.read_noise * rng.standard_normal(light.shape, dtype=np.float32)
    return np.asarray(np.clip(np.rint(1000 * seen + 500), 0, 65535), np.uint16)


def varied_data_set(
    folder: str | Path, *, n_train: int, n_val: int, diameter: float, shape: Sequence[int] = (44, 80, 80), seed: int = 0
) -> Path:
    """Write ``train`` and ``val``, each with ``images/NAME.tif`` and ``labels/NAME.tif``, into a folder and return the folder.

    All volumes are resampled to cubic voxels and to nuclei of about the same diameter, as new volumes are before they are segmented with a
    network for one diameter. Volume i of a split depends on (seed, split, i) only, and volumes that exist are kept: an interrupted call
    continues, and a larger data set begins with the smaller one.

    Args:
        folder: where the data set is written.
        n_train: number of volumes for training.
        n_val: number of volumes for validation.
        diameter: diameter of the nuclei in voxels; the mean diameter of a volume differs from it by up to the half.
        shape: voxels ZYX of each volume, up to one.
        seed: seed of all random numbers.
    """
    folder = Path(folder)
    for number, (split, count) in enumerate([("train", n_train), ("val", n_val)]):
        for index in range(count):
            paths = [folder / split / what / f"volume_{index:04d}.tif" for what in ("images", "labels")]
            if not all(path.exists() for path in paths):
                _write_volume(paths, varied_volume(diameter, shape, np.random.default_rng((seed, number, index))))
    return folder


def varied_volume(diameter: float, shape: Sequence[int], rng: np.random.Generator) -> Simulated:
    """A volume under drawn conditions, resampled to cubic voxels and to nuclei of about `diameter` voxels; see `varied_data_set`.

    Examples:
        >>> made = varied_volume(6, (8, 16, 16), np.random.default_rng(1))
        >>> made.image.shape == made.labels.shape, made.spacing
        (True, (1.0, 1.0, 1.0))
    """
    conditions = draw_conditions(rng)
    own = diameter * _log_uniform(rng, 0.66, 1.5)
    made = simulate_varied(conditions, extent=(shape[0] / own, shape[1] / own, shape[2] / own), rng=rng)
    factors = [own / conditions.diameter * step for step in made.spacing]
    return Simulated(_resampled(made.image, factors), _resampled(made.labels, factors, labels=True), (1.0, 1.0, 1.0))


def _write_volume(paths: Sequence[Path], made: Simulated) -> None:
    from morula.io.write import write

    for path, array, labels in zip(paths, (made.image, made.labels), (False, True), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, array, axes="ZYX", labels=labels, overwrite=True)


def _resampled(array: np.ndarray, factors: Sequence[float], *, labels: bool = False) -> np.ndarray:
    """An array with `factors` times as many voxels: averaged where it shrinks, linear where it grows; labels take the nearest voxel."""
    from scipy.ndimage import gaussian_filter, zoom

    shape = [max(1, round(n * f)) for n, f in zip(array.shape, factors, strict=True)]
    exact = [m / n for m, n in zip(shape, array.shape, strict=True)]
    if labels:
        return np.asarray(zoom(array, exact, order=0, mode="nearest", grid_mode=True))
    smooth = gaussian_filter(array.astype(np.float32), [max(0.0, 0.5 * (1 / f - 1)) for f in factors], mode="nearest")
    return np.asarray(zoom(smooth, exact, order=1, mode="nearest", grid_mode=True)).round().astype(array.dtype)
