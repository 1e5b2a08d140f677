"""Prediction with the network of a job of pytorch-3dunet: checkpoint, device and tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from morula.core.array import ArraySource
from morula.core.errors import OptionError
from morula.core.events import Event, Warned
from morula.dialects.pytorch3dunet.job import Job
from morula.dialects.pytorch3dunet.networks import Model, load_state_dict, model_of
from morula.dialects.pytorch3dunet.patches import grid_of
from morula.dialects.pytorch3dunet.prediction_output import WritableArray
from morula.inference.memory import available_memory, measure_bytes_per_voxel
from morula.inference.patches import PatchPlan
from morula.inference.plan import TilePlan, Tiles, plan_tiles
from morula.inference.predict import Precision, TiledNetwork, predict
from morula.nn.build import to_channels_last
from morula.nn.fuse import fuse_for_inference
from morula.nn.weights import load_state_dict_file
from morula.training.devices import pick_device


@dataclass(frozen=True, eq=False)
class Engine:
    """A network with the weights of its checkpoint, ready to predict.

    Attributes:
        job: the job.
        model: the network, optimised for inference.
        forward: the network with its activation, NCZYX to NKZYX.
        device: where it computes.
        memory: limit for planned tiles; most of the free memory when left out.
    """

    job: Job
    model: Model
    forward: Callable[[Tensor], Tensor]
    device: str
    memory: str | None = None

    @classmethod
    def of(cls, job: Job, memory: str | None = None) -> Engine:
        """The engine of a job.

        Raises:
            ModelError: when the checkpoint is damaged or belongs to another network.
            OptionError: for a device that is absent, or one that the backend cannot use.
            MissingExtraError: when the backend is not installed.
        """
        model = model_of(job.model)
        load_state_dict(model, load_state_dict_file(str(job.plain.model_path)))
        # after the weights are loaded, because fused layers have other names
        fast = fuse_for_inference(model)
        if job.predictor.backend == "openvino":
            from morula.inference.openvino import OpenVino  # an extra, which may not be installed

            if job.plain.device not in (None, "cpu"):
                raise OptionError(
                    "prediction.device",
                    f"backend openvino computes on CPUs, but device is {job.plain.device!r}",
                    remedy="Write device: cpu.",
                )
            precision: Literal["fp32", "fp16"] = "fp16" if job.predictor.precision == "fp16" else "fp32"
            return cls(job, fast, OpenVino(fast, fast.network.multiple, precision), "cpu", memory)
        device = pick_device(job.plain.device or "auto")
        fast = to_channels_last(fast).to(device)
        # as in the original, the patches of a batch are divided among all GPUs
        several = device == "cuda" and torch.cuda.device_count() > 1
        return cls(job, fast, torch.nn.DataParallel(fast) if several else fast, device, memory)

    @property
    def channels(self) -> int:
        """Channels of the prediction."""
        return self.model.network.heads["channels"]

    def plan(self, shape: Sequence[int]) -> Tiles:
        """Tiles of an image (Z, Y, X): the patches of the slice builder, planned tiles, or the whole image."""
        loaders, whole = self.job.loaders, tuple(shape)
        builder = None if loaders.test is None else loaders.test.slice_builder
        if self.job.predictor.tiles == "planned":
            return self._planned(whole)
        if builder is None or self.job.predictor.name == "DSB2018Predictor":
            return PatchPlan(whole, whole, tuple((0,) for _ in whole), (0,) * len(whole))
        positions = tuple(tuple(map(int, starts)) for starts in grid_of(whole, builder).starts)
        batch = loaders.batch_size * (torch.cuda.device_count() if self.device == "cuda" else 1)
        return PatchPlan(whole, builder.patch_shape, positions, builder.halo_shape, batch, self.job.predictor.blend)

    def _planned(self, shape: tuple[int, ...]) -> TilePlan:
        """Tiles that need no more memory than the patches of the job with their halo, unless a limit was given."""
        network, loaders = self.model.network, self.job.loaders
        # networks of two dimensions compute planes of volumes ZYX
        flat = (1,) * (3 - network.ndim)
        each = measure_bytes_per_voxel(self.model, network.in_channels, network.multiple, device=self.device)
        memory = available_memory(self.memory, self.device)
        builder = None if loaders.test is None else loaders.test.slice_builder
        if self.memory is None and builder is not None:
            tile = math.prod(n + 2 * h for n, h in zip(builder.patch_shape, builder.halo_shape, strict=True))
            # planned tiles must not need more than the job was written for
            memory = min(memory, int(tile * loaders.batch_size * each))
        halo, multiple = (0,) * len(flat) + network.receptive_halo, flat + network.multiple
        return plan_tiles(shape, halo=halo, multiple=multiple, memory=memory, bytes_per_voxel=each)

    def predict(
        self, raw: ArraySource, plan: Tiles, scale: Callable[[np.ndarray], np.ndarray], out: WritableArray, *, name: str
    ) -> Generator[Event, None, None]:
        """Predict an image CZYX into `out` KZYX and yield the progress."""
        if isinstance(plan, TilePlan) and self.model.network.norm_over_space:
            yield Warned(
                "prediction.tile_normalised",
                f"{name}: the network normalises over each tile, and tiles of {list(plan.tile)} differ from the patches of its training. "
                "Compare the result with that of predictor.tiles: patch.",
            )
        options = self.job.predictor
        precision: Precision = "fp32" if options.backend == "openvino" else options.precision  # openvino has its own precision
        network = TiledNetwork(self.forward, self.channels, device=self.device, precision=precision)
        for progress in predict(raw, network, plan, normalise=scale, out=out):
            yield replace(progress, note=name)
