"""Settings between predicted channels and objects that can be tuned, and checks of their numbers of axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from morula.decoders.decode import AnyDecoder
from morula.decoders.search_space import Space, refinement_space
from morula.methods.object_options import ObjectOptions


def values_per_axis(settings: object, key: str = "") -> Iterator[tuple[str, tuple[int, ...]]]:
    """Lists of whole numbers among a decoder's settings, by dotted key: they hold one number per axis.

    Examples:
        >>> list(values_per_axis({"grid": (2, 2), "steps": 3, "seed_morphology": ({"op": "erode", "radius": (1, 2)},)}))
        [('grid', (2, 2)), ('seed_morphology.0.radius', (1, 2))]
    """
    if isinstance(settings, tuple | list) and settings and all(isinstance(item, int) for item in settings):
        yield key, tuple(settings)
    elif isinstance(settings, Mapping | tuple | list):
        for name, inner in settings.items() if isinstance(settings, Mapping) else enumerate(settings):
            yield from values_per_axis(inner, f"{key}.{name}" if key else str(name))


def object_settings(kind: str, decoder: AnyDecoder, objects: ObjectOptions, truths: Sequence[np.ndarray]) -> Space:
    """Values worth trying from channels to objects, by dotted key of the job: those of the decoder, then the operations on objects.

    `truths` are label images, for the size of objects.
    """
    # the smallest sizes to remove are tried around the sizes of the true objects
    sizes = [np.unique(truth[truth > 0], return_counts=True)[1] for truth in truths]
    space: Space = {"objects.decoder.kind": (kind,)}
    space |= {f"objects.decoder.{key}": values for key, values in decoder.search_space().items()}
    refinements = refinement_space(objects.refine, np.concatenate(sizes) if sizes else np.zeros(0))
    return space | {f"objects.refine.{name}": values for name, values in refinements.items()}
