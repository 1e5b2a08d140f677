"""A trained model: the network with all that is needed to use it on new images."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from morula.core.allocator import keep_freed_memory
from morula.core.errors import ModelError, OptionError
from morula.core.events import Event, Warned
from morula.core.image import Image
from morula.core.orientation import Orientation
from morula.core.voxel_size import VoxelSize, VoxelSizeLike
from morula.inference.median import median

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from morula.data.normalise import Normalisation
    from morula.decoders.decode import Objects
    from morula.inference.openvino import OpenVino
    from morula.jobs.job import Job
    from morula.methods.base import Method
    from morula.nn.network import Network

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network, its method, the normalisation of its images and the voxel size it was trained at.

    Made by training or `morula.load`. `job` is the resolved job that it was trained by.

    Examples:
        >>> import morula
        >>> model = morula.load("runs/nuclei")  # doctest: +SKIP
        >>> labels = model.segment(morula.read("scan.tif"))  # doctest: +SKIP
    """

    job: Job
    network: Network
    method: Method
    in_channels: int
    voxel_size: VoxelSize
    normalisation: Any = None

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return self.method.ndim

    def predict(self, image: Any, *, memory: int | str | None = None, device: str = "auto") -> np.ndarray:
        """Predicted channels K(Z)YX float32, named by `method.channels`.

        Args:
            image: an `Image`, or an array (Z)YX, or C(Z)YX where the model has several input channels.
            memory: bytes (or ``"8GB"``) that tiles may take; half of what is free when left out.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

        Raises:
            ModelError: when the image has other dimensions or channels than the model was trained with.
        """
        return drained(self.predict_steps(self.as_image(image), memory=memory, device=device))

    def segment(self, image: Any, *, memory: int | str | None = None, device: str = "auto") -> Image:
        """Label image (Z)YX of the objects (or the classes) in an image, with its voxel size. Arguments as in `predict`."""
        image = self.as_image(image)
        objects = self.decode(self.predict(image, memory=memory, device=device), image)
        labels = self.measured(objects, image)[0] if self.job.objects.filter else objects.labels
        return Image(labels, image.axes.spatial_axes, image.voxel_size, image.source)

    def decode(self, prediction: np.ndarray, image: Image | None = None, *, tell: Callable[[str], None] = lambda _: None) -> Objects:
        """Objects of predicted channels K(Z)YX, with parameters fitted on all of it.

        Args:
            prediction: from `predict`.
            image: what was predicted; methods that look at it (`wnet3d`) do without where it is left out.
            tell: called with what was decided on the way.
        """
        settled, remarks = self.settled(prediction, image)
        for remark in remarks:
            tell(remark)
        return self.method.decode(settled, self.method.fit(self.method.statistics(settled)))

    def settled(self, prediction: np.ndarray, image: Image | None) -> tuple[np.ndarray, list[str]]:
        """What the method makes of predicted channels with the image beside them before they are decoded, and its remarks."""
        return self.method.settle(prediction, None if image is None else lambda: self.scaling(image).apply(image.canonical()))

    def scaling(self, image: Image) -> Normalisation:
        """How this image is brought to the network's scale."""
        from morula.data.normalise import statistics

        return self.normalisation or statistics(image, self.job.sampling.normalise)

    def measured(self, objects: Objects, image: Image) -> tuple[np.ndarray, pd.DataFrame]:
        """Labels of the objects that the job's conditions leave, and the table of all objects; where the job has conditions, the columns
        `comment` and `conditions` tell which were removed, and why."""
        from morula.measurement.filter import filter_objects
        from morula.measurement.measure import measure
        from morula.methods.classes import class_columns

        wanted = self.job.objects
        intensity = image.canonical() if wanted.measure.intensity else None
        table = measure(
            objects.labels, voxel_size=image.voxel_size, intensity=intensity, extra=wanted.measure.extra, confidence=objects.confidence
        )
        classes = self.job.method.object_classes
        if classes is not None and objects.classes is not None and objects.class_confidence is not None:
            ids = table["label"].to_numpy()
            table = table.assign(**class_columns(classes, objects.classes, objects.class_confidence, ids))
        return filter_objects(objects.labels, table, wanted.filter) if wanted.filter else (objects.labels, table)

    def as_image(self, image: Any, voxel_size: VoxelSizeLike = None) -> Image:
        """An image that this model can take.

        Raises:
            ModelError: for other dimensions or channels than the model was trained with.
        """
        if not isinstance(image, Image):
            array = np.asarray(image)
            spatial = "ZYX"[-self.ndim :]
            axes = spatial if array.ndim == self.ndim else f"C{spatial}"
            if array.ndim not in (self.ndim, self.ndim + 1):
                raise ModelError(
                    f"the image has shape {array.shape}; the model takes {self.ndim}D images, {spatial} or C{spatial}. "
                    "Give an image of these dimensions, or a `morula.Image` that names its axes."
                )
            image = Image(array, axes, None if voxel_size is None else VoxelSize.of(voxel_size, self.ndim))  # type: ignore[arg-type]
        name = image.source or "the image"
        if image.ndim_spatial != self.ndim:
            raise ModelError(
                f"{name} is {image.ndim_spatial}D (axes {image.axes}, shape {image.shape}) but the model was trained in {self.ndim}D. "
                f"Use a {image.ndim_spatial}D model, or state other axes."
            )
        if image.n_channels != self.in_channels:
            raise ModelError(
                f"{name} has {image.n_channels} channel(s) but the model was trained on {self.in_channels}. "
                "Pick those that it was trained on."
            )
        return image

    def warnings(self, image: Image) -> list[str]:
        """What makes this image unlike those the model was trained on."""
        if image.voxel_size is None or "pixel" in (image.voxel_size.unit, self.voxel_size.unit):
            return []
        trained = self.voxel_size.to(image.voxel_size.unit)
        ratios = [a / b for a, b in zip(image.spacing, trained.spacing(self.ndim), strict=True)]
        if all(0.75 < ratio < 1.33 for ratio in ratios):
            return []
        return [
            f"{image.source or 'the image'} has voxels of {image.spacing} {trained.unit} but the model was trained at "
            f"{trained.spacing(self.ndim)}; "
            "objects look larger or smaller to it than those it learned. Resample the image or train at this size."
        ]

    @cached_property
    def fast_network(self) -> Network:
        """The network as it predicts: batch norms folded into the convolutions, weights channels-last; equal up to rounding."""
        from morula.nn.build import to_channels_last
        from morula.nn.fuse import fuse_for_inference

        return to_channels_last(fuse_for_inference(self.network.for_prediction()))

    def forward(self, batch: Tensor) -> Tensor:
        """Predicted channels NK(Z)YX of normalised images NC(Z)YX."""
        return self.method.activate(self.fast_network(batch))

    @cached_property
    def openvino(self) -> OpenVino:
        """The same as `forward`, computed by OpenVINO on the CPU.

        Raises:
            MissingExtraError: when it is not installed.
        """
        from morula.inference.openvino import OpenVino, with_activation
        from morula.nn.fuse import fuse_for_inference

        fused = fuse_for_inference(self.network.for_prediction())
        precision: Literal["fp32", "fp16"] = "fp16" if self.job.prediction.precision == "fp16" else "fp32"
        return OpenVino(with_activation(fused, self.method.activate), self.network.multiple, precision)

    def orientations(self) -> list[Orientation]:
        """Those that the job averages over."""
        mode = self.job.prediction.tta
        allowed = self.method.orientations()
        if mode == "none":
            return allowed[:1]
        straight = tuple(range(self.ndim))
        return [each for each in allowed if mode == "all" or each.permutation == straight]

    def predict_steps(
        self, image: Image, *, memory: int | str | None = None, device: str = "auto", out: Any = None
    ) -> Generator[Event, None, Any]:
        """Predict an image into `out` (an array K(Z)YX in memory when left out), telling the progress; returns `out`."""
        from morula.inference.memory import available_memory
        from morula.inference.predict import predict
        from morula.training.devices import pick_device

        by_openvino = self.job.prediction.backend == "openvino"
        if by_openvino and device not in ("auto", "cpu"):
            raise OptionError(f"prediction.backend openvino computes on CPUs but the device is {device!r}. Use 'cpu', or backend torch.")
        device = "cpu" if by_openvino else pick_device(device)
        self.fast_network.to(device)
        normalisation = self.scaling(image)
        plan = self.plan(image.spatial_shape, available_memory(memory or self.job.prediction.memory, device), device)
        if not plan.exact and not self.network.norm_over_space:
            yield Warned(
                "prediction.small_tiles",
                f"the memory allows tiles of {plan.tile} only, smaller than what the network sees; predictions may differ slightly "
                "near the seams. Give more memory to avoid it.",
            )
        with keep_freed_memory():
            predicted = yield from predict(
                image.lazy(),
                self.openvino if by_openvino else self.forward,
                plan,
                channels=len(self.method.channels),
                normalise=normalisation.apply,
                orientations=self.orientations(),
                reorient=self.method.reorient,
                out=out,
                device=device,
                precision="fp32" if by_openvino else self.job.prediction.precision,
            )
        for each in self.job.prediction.median:
            for channel in range(len(self.method.channels)):
                predicted[channel] = median(np.asarray(predicted[channel]), each.axes, each.size)
        return predicted

    def plan(self, shape: tuple[int, ...], memory: int, device: str) -> Any:
        """Tiles for an image of this shape, as the job states them; for a network that normalises over space as large as its patches."""
        from morula.inference.memory import measure_bytes_per_voxel
        from morula.inference.plan import plan_tiles

        network = self.fast_network
        fixed, stated = network.norm_over_space, self.job.prediction.tile
        return plan_tiles(
            shape,
            halo=network.receptive_halo,
            multiple=network.multiple,
            memory=memory,
            bytes_per_voxel=measure_bytes_per_voxel(self.forward, self.in_channels, network.multiple, device=device),
            tile=network.padded_shape(stated or self.job.sampling.patch_shape) if fixed or stated else None,
            overlap=self.job.prediction.overlap if fixed else None,
        )

    def save(self, folder: str | Path, example: Tensor) -> list[Path]:
        """Write weights and description; `example` (a normalised batch) and its output are stored with them and checked at load."""
        from morula.nn.weights import save_weights

        document = self.job.model_dump(mode="json", by_alias=True)
        facts = {
            "job": document,
            "channels": list(self.method.channels),
            "voxel_size": self.voxel_size.asdict(),
            "normalisation": None if self.normalisation is None else self.normalisation.as_dict(),
        }
        return save_weights(Path(folder), self.network, facts, example)


def drained(steps: Generator[Any, None, Result]) -> Result:
    """What a generator of events returns, its events left unread.

    Examples:
        >>> def steps():
        ...     yield "an event"
        ...     return 42
        >>> drained(steps())
        42
    """
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
