"""The sums of a loss by the name that a job gives it."""

from __future__ import annotations

from torch import Tensor

from morula.losses import LOSSES
from morula.losses.rebalance import CLASS_WEIGHTED, class_weights
from morula.losses.ssim import ssim_sums
from morula.losses.sums import Activation, Sums, activate
from morula.methods.loss_options import OF_CLASSES, ClassWeights, LossArguments

OWN_ACTIVATION = ("bce", "bce_dice")
"""Losses that contain their activation, for numerical stability."""


def image_loss_sums(
    name: str,
    output: Tensor,
    target: Tensor,
    weight: Tensor | None,
    *,
    activation: Activation = "linear",
    share: float = 1.0,
    options: LossArguments | None = None,
) -> Sums:
    """The same as `loss_sums` for predicted images, with one loss more: `ssim`.

    Examples:
        >>> import torch
        >>> image = torch.rand(1, 1, 8, 8)
        >>> round(float(image_loss_sums("ssim", image, image, None).total), 6)
        0.0
    """
    if name != "ssim":
        return loss_sums(name, output, target, weight, activation=activation, share=share, options=options)
    sums = ssim_sums(activate(output, activation), target, weight)
    return Sums(sums.parts, lambda parts: share * sums.value(parts))


def loss_sums(
    name: str,
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    *,
    activation: Activation = "linear",
    share: float = 1.0,
    classes: ClassWeights | None = None,
    options: LossArguments | None = None,
) -> Sums:
    """Sums of a loss by its name, multiplied by `share`.

    Args:
        name: member of `morula.losses.LOSSES`.
        logits: NC(Z)YX.
        target: of the same shape; for `ce` one channel per class, or one channel of class numbers.
        weight: broadcastable to it; 0 leaves a voxel out.
        activation: what turns logits into values of the target's kind; the one used in prediction.
        share: factor of the loss.
        classes: weights of the classes, in cross-entropies.
        options: further arguments of the loss, such as ``{"squared": True}``.

    Raises:
        UnknownNameError: for a loss that does not exist.

    Examples:
        >>> import torch
        >>> float(loss_sums("l1", torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2), None, activation="sigmoid", share=2.0).total)
        1.0
    """
    if classes is not None and weight is not None and name in CLASS_WEIGHTED:
        weight = class_weights(target, weight, classes)
    more = dict(options or {})
    # losses differ in what they take: class numbers, probabilities with their activation, or logits
    if name in OF_CLASSES:
        # one weight per voxel: classes that exclude each other are scored together
        numbers = target if target.shape[1] == 1 else target.argmax(dim=1, keepdim=True)
        sums = LOSSES.load(name)(logits, numbers, None if weight is None else weight[:, :1], **more)
    elif name in ("dice", "generalized_dice"):
        sums = LOSSES.load(name)(logits, target, weight, activation=activation, **more)
    elif name in OWN_ACTIVATION:
        sums = LOSSES.load(name)(logits, target, weight, **more)
    else:
        sums = LOSSES.load(name)(activate(logits, activation), target, weight, **more)
    return Sums(sums.parts, lambda parts: share * sums.value(parts))
