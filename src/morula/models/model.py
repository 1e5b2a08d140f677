"""A trained model: the network with all that is needed to use it on new images."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, overload

import numpy as np
from torch import Tensor

from morula.core.allocator import keep_freed_memory
from morula.core.axes import Axes
from morula.core.errors import ModelError, OptionError
from morula.core.events import Event, Warned, drained
from morula.core.image import Image
from morula.core.image_array import ImageArray
from morula.core.image_like import ImageLike, image_of, is_list_of_images
from morula.core.orientation import Orientation
from morula.core.remedy import AS_VOLUME, Remedy
from morula.core.voxel_size import VoxelSize, VoxelSizeLike
from morula.data.normalise import Normalisation, renormalised, statistics
from morula.inference.median import median
from morula.inference.memory import available_memory, measure_bytes_per_voxel
from morula.inference.openvino import OpenVino, with_activation
from morula.inference.plan import TilePlan, plan_tiles
from morula.inference.predict import Array, TiledNetwork, predict
from morula.io.lazy import without_z
from morula.jobs.job import Job
from morula.labels.objects import Objects, by_first_voxel
from morula.measurement.calibration import calibrated
from morula.measurement.evidence import local_evidence, settled
from morula.measurement.filter import remove_ids, removed_ids, with_verdicts
from morula.measurement.measure import measure
from morula.methods.base import Method
from morula.methods.classes import class_columns
from morula.models.enlarge import enlarged
from morula.models.scale import factors_of, fit_scale
from morula.nn.build import kind_of, to_channels_last
from morula.nn.fuse import fuse_for_inference
from morula.nn.network import Network
from morula.nn.weights import save_weights
from morula.training.devices import pick_device

if TYPE_CHECKING:
    import pandas as pd


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
    normalisation: Normalisation | None = None
    """One for all images; `None` where each image is normalised by its own values."""
    source: Path | None = None
    """The folder or file that it was loaded from: nothing is written there."""
    diameter: float | None = None
    """Diameter in voxels of the objects that it was trained on, where all images are rescaled to it; `None` where no image is rescaled."""
    orientation: Orientation | None = None
    """The only orientation that images are predicted in; `None`: those of the job's test-time augmentation."""
    colour: bool = False
    """Whether it takes colour images, RGB. A grey image is then taken as three equal channels, and a channel for opacity is left out."""

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return self.method.ndim

    def __repr__(self) -> str:
        spatial, options = "ZYX"[-self.ndim :], self.job.sampling.normalise
        lengths = " x ".join(f"{length:g}" for length in self.voxel_size.spacing(self.ndim))
        scaled = f"by the {options.kind} of {'each image' if self.normalisation is None else 'the training images'}"
        weights = sum(values.numel() for values in self.network.parameters())
        return (
            f"Model{'' if self.source is None else f' {str(self.source)!r}'}: {self.job.method.kind} -> {', '.join(self.method.channels)}\n"
            f"  images:     {self.ndim}D, axes {spatial if self.in_channels == 1 else f'C{spatial}'}, {self.in_channels} channel(s)\n"
            f"  voxel size: {lengths} {self.voxel_size.unit} ({', '.join(spatial.lower())})\n"
            f"  intensity:  {scaled}\n"
            f"  network:    {kind_of(self.network.options)}, {weights / 1e6:.2g} million weights"
        )

    def predict(
        self,
        image: ImageLike,
        *,
        axes: str | None = None,
        voxel_size: VoxelSizeLike = None,
        memory: int | str | None = None,
        device: str = "auto",
    ) -> np.ndarray:
        """Predicted channels K(Z)YX float32, named by `method.channels`.

        Args:
            image: an `Image`; an array of NumPy, dask, Zarr, HDF5 or PyTorch, (Z)YX, with channels C(Z)YX or (Z)YXC; or an array of xarray,
                whose dimensions name the axes. Arrays of dask, Zarr and HDF5 are read tile by tile.
            axes: names of the dimensions of an array, for example ``"ZCYX"``; by default from the image.
            voxel_size: edge lengths of a voxel; by default from the image.
            memory: bytes (or ``"8GB"``) that tiles may take; half of what is free when left out.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

        Raises:
            ModelError: when the image has other dimensions or channels than the model was trained with.
            DataError: for a path, a list of images, or values that are no numbers.
        """
        return drained(self.predict_steps(self.as_image(image, voxel_size, axes=axes), memory=memory, device=device))

    @overload
    def segment(
        self,
        image: Sequence[np.ndarray] | Sequence[Image],
        *,
        axes: str | None = ...,
        voxel_size: VoxelSizeLike = ...,
        diameter: float | None = ...,
        memory: int | str | None = ...,
        device: str = ...,
    ) -> list[ImageArray]: ...
    @overload
    def segment(
        self,
        image: ImageLike,
        *,
        axes: str | None = ...,
        voxel_size: VoxelSizeLike = ...,
        diameter: float | None = ...,
        memory: int | str | None = ...,
        device: str = ...,
    ) -> ImageArray: ...
    def segment(
        self,
        image: ImageLike | Sequence[np.ndarray] | Sequence[Image],
        *,
        axes: str | None = None,
        voxel_size: VoxelSizeLike = None,
        diameter: float | None = None,
        memory: int | str | None = None,
        device: str = "auto",
    ) -> ImageArray | list[ImageArray]:
        """Label image (Z)YX of the objects (or the classes) in an image: a NumPy array that carries the voxel size.

        Args:
            image: as in `predict`; or a list of images, which may differ in size, for a list of label images.
            axes: as in `predict`.
            voxel_size: as in `predict`.
            diameter: diameter of the objects in voxels; estimated where it is left out. A model that was trained on objects of one size
                (`Model.diameter`) gets the image at the scale at which its objects have this size.
            memory: as in `predict`.
            device: as in `predict`.

        Raises:
            ModelError: as `predict`, or for a diameter with a model that does not rescale images.
            DataError: as `predict`.

        Examples:
            >>> labels = model.segment(image)  # doctest: +SKIP
            >>> labels.max(), labels.spacing  # doctest: +SKIP
            (np.uint16(41), (0.5, 0.5))
        """
        several = is_list_of_images(image)
        images = cast("Sequence[ImageLike]", image if several else [image])
        opened = [self.as_image(image, voxel_size, axes=axes) for image in images]  # all are checked before the first one is segmented
        labels = [self._segment(image, diameter, memory=memory, device=device) for image in opened]
        return labels if several else labels[0]

    def _segment(self, image: Image, diameter: float | None, *, memory: int | str | None, device: str) -> ImageArray:
        fitted = drained(fit_scale(self, image, diameter, memory=memory, device=device))
        prediction = drained(self.predict_steps(fitted.image, memory=memory, device=device))
        objects = fitted.objects(self.decode(fitted.channels(prediction), fitted.decoded))
        labels = self.measured(objects, image)[0] if self.job.objects.filter else objects.labels
        return ImageArray(labels, image.axes.spatial_axes, image.voxel_size, image.source)

    def decode(self, prediction: np.ndarray, image: Image | None = None, *, tell: Callable[[str], None] = lambda _: None) -> Objects:
        """Objects of predicted channels K(Z)YX, with parameters fitted to the whole prediction; ids in the order of the first voxels.

        Args:
            prediction: from `predict`.
            image: the image that was predicted; only methods that use its intensities (`wnet3d`) need it, and they work without it.
            tell: called with each message for the log, for example which class became the foreground.
        """
        settled, remarks = self.settled(prediction, image)
        for remark in remarks:
            tell(remark)
        objects = self.method.decode(settled, self.method.fit(self.method.statistics(settled)))
        return by_first_voxel(objects) if self.method.instances else objects

    def settled(self, prediction: np.ndarray, image: Image | None) -> tuple[np.ndarray, list[str]]:
        """Input of the decoder, computed by the method from the predicted channels and the image, and its messages for the log."""
        return self.method.settle(prediction, None if image is None else lambda: self.scaling(image).apply(image.canonical()))

    def factors(self, image: Image, scale: float) -> tuple[float, ...]:
        """Factor of each axis (Z)YX for a scale of the last axis: voxels get the proportions that the model was trained on."""
        return factors_of(image, self.voxel_size, scale)

    def sample(self, image: Image) -> tuple[Model, Image]:
        """The model and the image by which the size of the objects is estimated."""
        return self, image

    def scaling(self, image: Image) -> Normalisation:
        """The normalisation of this image: that of the training images, or one by its own values; then that of each tile, if any."""
        return renormalised(self.normalisation or statistics(image, self.job.sampling.normalise), self.job.sampling.renormalise)

    def measured(self, objects: Objects, image: Image) -> tuple[np.ndarray, pd.DataFrame]:
        """Labels of the objects that the job's filter keeps, and the table of all objects.

        Where the run was calibrated, `confidence` is the probability that an object is right, and `decoder_confidence` is the other one.
        Where the job has a filter, the columns `comment` and `conditions` state which objects were removed, and by which conditions.
        """
        options = self.job.objects
        intensity = image.canonical() if options.measure.intensity else None
        table = measure(
            objects.labels,
            voxel_size=image.voxel_size,
            intensity=intensity,
            extra=options.measure.extra,
            confidence=objects.confidence,
            surface=options.measure.surface,
        )
        found = None
        if options.calibration is not None:
            found = local_evidence(objects.labels, image.canonical(), {str(name): table[name].to_numpy() for name in table})
        table = self.completed(table, found, objects.classes, objects.class_confidence)
        if not options.filter:
            return objects.labels, table
        return remove_ids(objects.labels, removed_ids(table)), table

    def completed(
        self,
        table: pd.DataFrame,
        found: Mapping[str, np.ndarray] | None,
        classes: np.ndarray | None,
        class_confidence: np.ndarray | None,
    ) -> pd.DataFrame:
        """The table of all objects of an image with calibrated confidences, classes, and the verdicts of the job's filter.

        Args:
            table: one row per object.
            found: evidence on the objects in these rows, where the run was calibrated.
            classes: (n,) class by id, or `None`.
            class_confidence: (n,) by id, or `None`.
        """
        options = self.job.objects
        if options.calibration is not None and found is not None:
            columns = {str(name): table[name].to_numpy() for name in table}
            probability = calibrated(options.calibration, columns | settled(found))
            table.insert(list(table).index("confidence"), "decoder_confidence", table["confidence"])
            table["confidence"] = probability
        known = self.job.method.object_classes
        if known is not None and classes is not None and class_confidence is not None:
            table = table.assign(**class_columns(known, classes, class_confidence, table["label"].to_numpy()))
        return with_verdicts(table, options.filter) if options.filter else table

    def _guess_axes(self, shape: tuple[int, ...]) -> str:
        """Axes of an array that does not name them: channels are the first axis or, as in RGB pictures, the last one."""
        spatial = "ZYX"[-self.ndim :]
        if len(shape) not in (self.ndim, self.ndim + 1):
            rule = f"the model takes {self.ndim}D images with the axes {spatial}, C{spatial} or {spatial}C"
            remedy = f"Give an image of these dimensions, or name the axes of the array, for example axes='T{spatial}'."
            raise ModelError("model.image_dimensions", rule, key="image", value=shape, remedy=remedy)
        if len(shape) == self.ndim:
            return spatial
        last = shape[-1] == self.in_channels and (shape[0] != self.in_channels or Axes.guess(shape).endswith("C"))
        return f"{spatial}C" if last else f"C{spatial}"

    def as_image(self, image: ImageLike, voxel_size: VoxelSizeLike = None, *, axes: str | None = None) -> Image:
        """An image that this model can take, on the grid of its predictions.

        Args:
            image: see `predict`.
            voxel_size: overrides that of the image.
            axes: names of the dimensions; overrides those of the image.

        Raises:
            ModelError: for other dimensions or channels than the model was trained with.
        """
        image = image_of(image, axes=axes, voxel_size=voxel_size, guess=self._guess_axes)
        image = without_z(image) if self.ndim == 2 else image  # Z of length 1 is 2D
        image = as_colour(image) if self.colour else image
        if image.ndim_spatial != self.ndim:
            raise ModelError(
                "model.image_dimensions",
                f"the image is {image.ndim_spatial}D (axes {image.axes}) but the model was trained in {self.ndim}D",
                key="image",
                value=image.shape,
                remedy=Remedy(
                    f"use a {image.ndim_spatial}D model",
                    "segment slice by slice (morula.by_slices(model); --slices z)" if self.ndim == 2 else AS_VOLUME,
                    "state other axes (axes='ZYX'; --axes ZYX; images.axes: ZYX)",
                ),
                file=image.source,
            )
        if image.n_channels != self.in_channels:
            raise ModelError(
                "model.image_channels",
                f"the image has {image.n_channels} channel(s) but the model was trained on {self.in_channels}",
                key="image",
                value=image.n_channels,
                remedy=Remedy("select the channel that the model was trained on (channel=0; --channel 0)", "give images with its channels"),
                file=image.source,
            )
        return enlarged(image, self.job.method.enlarged_by)

    def warnings(self, image: Image) -> list[str]:
        """Differences between this image and the training images that make a prediction doubtful."""
        if self.diameter is not None or image.voxel_size is None or "pixel" in (image.voxel_size.unit, self.voxel_size.unit):
            return []
        trained = self.voxel_size.to(image.voxel_size.unit)
        # smaller differences than about a third do not matter much
        ratios = [a / b for a, b in zip(image.spacing, trained.spacing(self.ndim), strict=True)]
        if all(0.75 < ratio < 1.33 for ratio in ratios):
            return []
        return [
            f"{image.source or 'the image'} has voxels of {image.spacing} {trained.unit} but the model was trained at "
            f"{trained.spacing(self.ndim)}; "
            "objects appear larger or smaller to it than in training. Resample the image, or train at this voxel size."
        ]

    @cached_property
    def fast_network(self) -> Network:
        """The network in its fast form: batch norms folded into the convolutions, weights channels-last; equal up to rounding."""
        return to_channels_last(fuse_for_inference(self.network.for_prediction()))

    def forward(self, batch: Tensor) -> Tensor:
        """Predicted channels NK(Z)YX of normalised images NC(Z)YX."""
        return self.method.activate(self.fast_network(batch))

    @cached_property
    def openvino(self) -> OpenVino:
        """The function `forward`, computed by OpenVINO on the CPU.

        Raises:
            MissingExtraError: when it is not installed.
        """
        fused = fuse_for_inference(self.network.for_prediction())
        precision: Literal["fp32", "fp16"] = "fp16" if self.job.prediction.precision == "fp16" else "fp32"
        return OpenVino(with_activation(fused, self.method.activate), self.network.multiple, precision)

    def orientations(self) -> list[Orientation]:
        """Orientations that the job averages over (test-time augmentation)."""
        if self.orientation is not None:
            return [self.orientation]
        mode = self.job.prediction.tta
        allowed = self.method.orientations()
        if mode == "none":
            return allowed[:1]
        unrotated = tuple(range(self.ndim))  # axes in their order: flips only
        return [orientation for orientation in allowed if mode == "all" or orientation.permutation == unrotated]

    def block_problem(self) -> str:
        """Why images cannot be segmented block by block with this model, as a clause for messages; empty where they can."""
        options = self.job.objects
        found = {
            "the model rescales images to the size of its objects": self.diameter is not None,
            "objects.intermediates are images as large as the prediction": options.intermediates,
            "objects.export draws the outlines of the whole image": bool(set(options.export) - {"parquet"}),
            "objects.measure.statistics are computed for the whole image": options.measure.statistics,
            "prediction.tta_spread is computed for the whole image": self.job.prediction.tta_spread,
        }
        return self.method.block_problem() or next((reason for reason, holds in found.items() if holds), "")

    def predict_steps(
        self,
        image: Image,
        *,
        memory: int | str | None = None,
        device: str = "auto",
        out: Array = None,
        scaling: Normalisation | None = None,
    ) -> Generator[Event, None, Array]:
        """Predict an image into `out` (an array K(Z)YX in memory when left out) and report the progress; returns `out`.

        `scaling` is the normalisation of the image, for a part of an image that is normalised as a whole.
        """
        device = self.device(device)
        self.fast_network.to(device)
        plan = self.plan(image.spatial_shape, available_memory(memory or self.job.prediction.memory, device), device)
        yield from self.tile_warnings(plan)
        with keep_freed_memory():  # tiles have equal sizes: freed memory is taken again at once, and need not return to the system
            scaling = scaling or self.scaling(image)
            predicted = yield from predict(image.lazy(), self.tiled(device), plan, normalise=scaling.apply, out=out)
        for channel in range(len(self.method.channels)):  # one at a time, because the prediction may be larger than the memory
            for filtering in self.job.prediction.median:
                predicted[channel] = median(np.asarray(predicted[channel]), filtering.axes, filtering.size)
            if self.method.on_scale_of_image:
                one = scaling.with_channels(channel + 1)
                predicted[channel] = np.asarray(predicted[channel]) * one.scale[channel] + one.offset[channel]
        return predicted

    def tiled(self, device: str) -> TiledNetwork:
        """The network and its test-time augmentation as tiles are predicted with them; `device` is a result of `Model.device`."""
        by_openvino = self.job.prediction.backend == "openvino"
        return TiledNetwork(
            self.openvino if by_openvino else self.forward,
            len(self.method.channels),
            self.orientations(),
            self.method.reorient,
            device,
            "fp32" if by_openvino else self.job.prediction.precision,
        )

    def tile_warnings(self, plan: TilePlan) -> Iterator[Warned]:
        """A warning where the memory does not allow tiles as large as the network needs."""
        if not plan.exact and not self.network.norm_over_space:
            yield Warned(
                "prediction.small_tiles",
                f"the memory allows tiles of {plan.tile} only, smaller than the field of view of the network; predictions may differ "
                "slightly near the seams. Give more memory to avoid it.",
            )

    def device(self, asked: str) -> str:
        """The device that computes predictions when this one is asked for.

        Raises:
            OptionError: when it is not present, or the backend does not compute on it.
        """
        if self.job.prediction.backend != "openvino":
            return pick_device(asked)
        if asked not in ("auto", "cpu"):
            remedy = "Use the device cpu, or prediction.backend: torch."
            raise OptionError("openvino.device", "OpenVINO computes on CPUs only", key="device", value=asked, remedy=remedy)
        return "cpu"

    def plan(self, shape: tuple[int, ...], memory: int, device: str) -> TilePlan:
        """Tiles for an image of this shape: of the size that the job states, or that the memory allows.

        A network that normalises over space keeps tiles of the size of its training patches.
        """
        network = self.fast_network
        # a norm over space has other statistics in tiles of another size, so these networks keep the tile that they were trained with
        fixed, stated = network.norm_over_space, self.job.prediction.tile
        return plan_tiles(
            shape,
            halo=network.receptive_halo,
            multiple=network.multiple,
            memory=memory,
            bytes_per_voxel=self._bytes_per_voxel(device),
            tile=network.padded_shape(stated or self.job.sampling.patch_shape) if fixed or stated else None,
            overlap=self.job.prediction.overlap if fixed else None,
        )

    def _bytes_per_voxel(self, device: str) -> float:
        """Memory of a forward pass per voxel, measured once per device."""
        if device not in self._measured:
            self._measured[device] = measure_bytes_per_voxel(self.forward, self.in_channels, self.fast_network.multiple, device=device)
        return self._measured[device]

    @cached_property
    def _measured(self) -> dict[str, float]:
        """What `_bytes_per_voxel` has measured."""
        return {}

    def save(self, folder: str | Path, example: Tensor, *, half: bool = False) -> list[Path]:
        """Write weights and description; `example` (a normalised batch) and its output are stored with them and checked at load.

        With `half` the weights are rounded to float16.
        """
        document = self.job.model_dump(mode="json", by_alias=True)
        facts: dict[str, object] = {
            "job": document,
            "channels": list(self.method.channels),
            "voxel_size": self.voxel_size.asdict(),
            "normalisation": None if self.normalisation is None else self.normalisation.as_dict(),
        }
        facts |= {} if self.diameter is None else {"diameter": self.diameter}
        facts |= {"colour": True} if self.colour else {}
        return save_weights(Path(folder), self.network, facts, example, half=half)


def as_colour(image: Image) -> Image:
    """A grey image as one of three equal channels, one of four without the last, which is the opacity; others are returned as they are."""
    if image.n_channels not in (1, 4):
        return image
    channels = image.canonical()
    colours = np.repeat(channels, 3, axis=0) if len(channels) == 1 else channels[:3]
    return replace(image, data=colours, axes=Axes(f"C{image.axes.spatial_axes}"))
