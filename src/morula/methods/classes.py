"""A class for every object: an extra head of the network predicts one for each voxel, and the voxels of an object vote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from morula import methods
from morula.core.errors import DataError
from morula.methods.class_options import Classes

if TYPE_CHECKING:
    from torch import Tensor

    from morula.losses.sums import Sums

HEAD = "classes"
"""Name of the head, and of its part of the loss."""


def class_targets(options: Classes, labels: np.ndarray, classes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """One channel per class (K, (Z)YX), and weights: 1 in objects of a known class.

    Raises:
        DataError: when there is no class image, or a value in it is no class.

    Examples:
        >>> channels, weights = class_targets(Classes(count=2), np.array([[0, 1, 1, 2]]), np.array([[0, 2, 2, 255]]))
        >>> channels[1].tolist(), weights[0].tolist()
        ([[0.0, 1.0, 1.0, 0.0]], [[0.0, 1.0, 1.0, 0.0]])
    """
    if classes is None:
        raise DataError(
            "classes.missing",
            "method.classes needs the class of each object but the labels come without class images",
            remedy="Name class images, or two-channel labels.",
        )
    # an object of unknown class stays an object: it only has no part in the loss of the classes
    known = (labels > 0) & (classes != options.ignore) & (classes > 0)
    highest = int(classes[known].max(initial=0))
    if highest > options.number:
        raise DataError(
            "classes.unknown",
            f"an object has the class {highest} but there are {options.number} classes (1 to {options.number})",
            value=highest,
            remedy="Set method.classes.count, or method.classes.ignore for a value that is not a class.",
        )
    channels = np.stack([(classes == number) & known for number in range(1, options.number + 1)]).astype(np.float32)
    return channels, np.broadcast_to(known.astype(np.float32), channels.shape)


def class_loss(options: Classes, logits: Tensor, targets: Tensor, weights: Tensor) -> Sums:
    """Cross-entropy in objects of a known class."""
    return methods.loss_sums.loss_sums("ce", logits, targets, weights, share=options.weight, classes=options.class_weights)


def class_columns(options: Classes, classes: np.ndarray, share: np.ndarray, ids: np.ndarray) -> Mapping[str, np.ndarray]:
    """Columns of the object table for the objects of these ids: class, its name, its share of the votes.

    Examples:
        >>> class_columns(Classes(names=("a", "b")), np.array([2, 1]), np.array([0.5, 1.0]), np.array([2]))
        {'class': array([1]), 'class_name': array(['a'], dtype='<U1'), 'class_confidence': array([1.])}
    """
    names = np.array(("", *options.titles))
    own = classes[ids - 1]
    return {"class": own, "class_name": names[own], "class_confidence": share[ids - 1]}


def class_image(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The class of each voxel's object, 0 in the background, uint8 (uint16 beyond 255 classes).

    Examples:
        >>> class_image(np.array([[0, 1, 2]]), np.array([2, 1]))
        array([[0, 2, 1]], dtype=uint8)
    """
    table = np.concatenate([[0], classes])  # id 0 is the background
    return table.astype(np.uint8 if table.max() <= 255 else np.uint16)[labels]
