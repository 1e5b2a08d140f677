"""Where a training computes, and how precisely."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import torch

from morula.core.errors import OptionError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from morula.training.options import Training

_PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
    "fp64": "32-true",  # true to the network's own type: Fabric's double precision hands float32 to the loss
}


def pick_device(device: str) -> str:
    """``cuda``, ``mps`` or ``cpu``: the kind asked for, or with ``auto`` the fastest one present.

    Raises:
        OptionError: when the kind asked for is not present.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(kind for kind, there in present.items() if there)
    if not present[device]:
        raise OptionError(f"device {device!r} is not present on this machine (or torch was installed without it). Use 'auto' or 'cpu'.")
    return device


def pick_precision(precision: str, device: str) -> str:
    """The arithmetic asked for, or with ``auto`` the fastest that is safe on this kind of device.

    A CPU that multiplies matrices of bfloat16 in hardware (AMX) trains about twice as fast with it, large volumes more.

    Raises:
        OptionError: for arithmetic that the device has not.

    Examples:
        >>> pick_precision("auto", "mps")
        'fp32'
    """
    if precision == "auto":
        if device == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return "bf16" if device == "cpu" and torch.cpu.get_capabilities().get("amx_bf16", False) else "fp32"
    if precision == "fp16" and device != "cuda":
        raise OptionError(f"precision 'fp16' needs a CUDA GPU but the device is {device!r}. Use 'auto', 'fp32' or 'bf16'.")
    if precision == "fp64" and device == "mps":
        raise OptionError("precision 'fp64' does not exist on the device 'mps'. Use 'auto' or 'fp32'.")
    return precision


def open_fabric(options: Training) -> Fabric:
    """Device, precision and the other processes of this training, launched.

    Under SLURM, torchrun or MPI the processes exist already and are found; with several devices and none of these, the script is
    started again for each.

    Raises:
        OptionError: for a device or precision that this machine has not.
    """
    from lightning_fabric import Fabric  # takes as long as torch to import, and prediction asks this file for its device

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # the first event of a training says device and precision
    device = pick_device(options.device)
    precision = pick_precision(options.precision, device)
    fabric = Fabric(
        accelerator=device,
        devices=list(options.devices) if isinstance(options.devices, tuple) else options.devices,
        num_nodes=options.nodes,
        strategy=options.strategy,
        precision=_PRECISIONS[precision],
    )
    fabric.launch()
    return fabric
