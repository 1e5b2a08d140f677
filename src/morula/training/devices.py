"""Device and precision of a training."""

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
    "fp64": "32-true",  # the network itself is in float64: Fabric's double precision would hand float32 to the loss
}


def pick_device(device: str) -> str:
    """``cuda``, ``mps`` or ``cpu``: the requested device, or for ``auto`` the fastest one present.

    Raises:
        OptionError: for an unknown device, or one that is not present.

    Examples:
        >>> pick_device("cpu")
        'cpu'
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(kind for kind, available in present.items() if available)
    if device not in present:
        rule, remedy = "must be auto, cpu, cuda or mps", "Leave it out for the fastest one that is present."
        raise OptionError("device.unknown", rule, key="training.device", value=device, remedy=remedy)
    if not present[device]:
        raise OptionError(
            "device.absent",
            "is not present on this machine, or torch was installed without support for it",
            key="training.device",
            value=device,
            remedy="Use 'auto' or 'cpu'.",
        )
    return device


def pick_precision(precision: str, device: str) -> str:
    """The requested arithmetic, or for ``auto`` the fastest that is safe on this device.

    A CPU that multiplies bfloat16 matrices in hardware (AMX) trains about twice as fast with bf16, on large volumes more.

    Raises:
        OptionError: when the device does not support the arithmetic.

    Examples:
        >>> pick_precision("auto", "mps")
        'fp32'
    """
    if precision == "auto":
        if device == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return "bf16" if device == "cpu" and torch.cpu.get_capabilities().get("amx_bf16", False) else "fp32"
    # float16 needs a gradient scaler, which torch has for CUDA only; Apple's GPUs have no float64
    if (precision == "fp16" and device != "cuda") or (precision == "fp64" and device == "mps"):
        raise OptionError(
            "precision.unsupported",
            f"is not supported on the device {device!r}",
            key="training.precision",
            value=precision,
            remedy="Use 'auto', 'fp32' or 'bf16'.",
        )
    return precision


def emulated(precision: str, device: str) -> bool:
    """Whether this processor has no instructions for the arithmetic, which then takes many times as long as fp32."""
    capabilities = torch.cpu.get_capabilities()
    return precision == "bf16" and device == "cpu" and not (capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def open_fabric(options: Training) -> Fabric:
    """Launch the devices and processes of this training at its precision.

    Under SLURM, torchrun or MPI the processes exist already and are detected; with several devices and none of these launchers, the
    running command is started again for each further device.

    Raises:
        OptionError: for a device or precision that this machine does not have.
    """
    from lightning_fabric import Fabric  # takes as long to import as torch, and prediction uses this module only for its device

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # the first event of a training states device and precision
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
