"""Simulated images with exact labels, as sample data of napari: nothing is downloaded."""

from __future__ import annotations

import numpy as np

from morula.testing.simulate import Kind, simulate
from morula.viewer.layers import LayerData, image_of_array, labels_layer, raw_layers


def nuclei_2d() -> list[LayerData]:
    """Touching nuclei in 2D, 512 x 512."""
    return _sample("nuclei", (512, 512), 120, (0.25, 0.25))


def nuclei_3d() -> list[LayerData]:
    """Touching nuclei in 3D, with voxels that are four times as long along z."""
    return _sample("nuclei", (24, 128, 128), 60, (1.0, 0.25, 0.25))


def membranes() -> list[LayerData]:
    """A tissue of cells with stained membranes in 2D, 512 x 512."""
    return _sample("membranes", (512, 512), 90, (0.25, 0.25))


def _sample(kind: Kind, shape: tuple[int, ...], number: int, spacing: tuple[float, ...]) -> list[LayerData]:
    made = simulate(kind, shape=shape, n_objects=number, rng=np.random.default_rng(0), spacing=spacing)
    # the truth is hidden, so that the first look is that of a microscope
    (raw,) = raw_layers(image_of_array(made.image, made.spacing, ("um",)), kind)
    return [raw, labels_layer(image_of_array(made.labels, made.spacing, ("um",)), f"{kind} truth", visible=False)]
