"""Instances through channels: a network predicts them from the image, a decoder makes objects of them."""

from __future__ import annotations

import numpy as np

from morula.core.errors import OptionError, Problem
from morula.decoders.embedseg import Options as EmbedSegOptions
from morula.decoders.foreground_mask import foreground_channel
from morula.losses import LOSSES
from morula.methods.base import Method
from morula.methods.channel_objects import ChannelPostprocessing, ObjectScoring
from morula.methods.channel_options import Options
from morula.methods.channel_task import GUESSED, ChannelTask
from morula.methods.loss_options import OF_PROBABILITIES
from morula.methods.object_options import ObjectOptions
from morula.methods.options import MethodOptions
from morula.methods.planning import Document, Facts, JobSections, Planning
from morula.methods.tunable import values_per_axis
from morula.representations import REPRESENTATIONS
from morula.representations.embedding import Options as EmbeddingOptions

__all__ = ["GUESSED", "Channels", "Options"]

HEAD_FEATURES = 64
"""Channels of a planned convolution before heads of many channels: half as many as StarDist has."""


class ChannelPlanning(ChannelTask, ChannelPostprocessing, Planning):
    """Plans radius and smallest size of embedded objects; rejects channels that no decoder makes objects of."""

    @classmethod
    def option_problems(cls, options: MethodOptions, objects: ObjectOptions) -> list[Problem]:
        """Channels that no decoder makes objects of, or not the one that is named; losses that do not fit their channel."""
        # decoder and losses depend on the channels only, so that any number of axes will do before the images are opened
        method = cls(options, objects, ndim=2, spacing=(1.0, 1.0))
        if problems := method._loss_problems():
            return problems
        if method.options.joint_loss and not method.probability_channels:
            rule, remedy = "compares probabilities, which not all channels are", "Leave it out."
            return [Problem("method.joint_loss", rule, code="loss.joint", value=True, remedy=remedy)]
        try:
            _ = method.decoder
        except OptionError as error:
            return [Problem.of(error, "method.channels" if objects.decoder is None else "objects.decoder")]
        try:
            for operation in method._tessellations:
                foreground_channel(method.representations, operation.channel)
        except OptionError as error:
            return [Problem.of(error, "objects.refine")]
        return []

    def _loss_problems(self) -> list[Problem]:
        """Losses of probabilities for channels that hold other values: the network would learn other values than its targets."""
        usable = ", ".join(loss for loss in LOSSES.names if loss not in (*OF_PROBABILITIES, "ce"))
        return [
            Problem(
                "method.losses",
                f"the loss of {channel.code} is {name!r}, which learns probabilities, but {channel.code} has the activation "
                f"{channel.activation} and holds other values",
                code="loss.not_a_probability",
                value=name,
                remedy=f"Use {usable}.",
            )
            for channel in self.representations
            if (name := self.options.losses.get(channel.code)) in OF_PROBABILITIES and channel.activation != "sigmoid"
        ]

    def dimension_problems(self) -> list[Problem]:
        """Options of channels and of the decoder for images of other dimensions."""
        problems = []
        probe = np.ones((4,) * self.ndim, np.uint32)  # options that need another number of axes fail on the smallest image
        for channel in self.representations:
            if channel.code == "Z" and self.ndim == 2:
                rule = "Z is the offset to the centre along z, which 2D images do not have"
                problems.append(Problem("method.channels.Z", rule, code="channel.needs_3d", remedy="Leave it out."))
            if channel.code in REPRESENTATIONS.builtin and channel.options == type(channel.options)():
                continue  # the defaults fit 2D and 3D, and the compiled functions of `encode` take half a second to load
            try:
                channel.encode(probe, self.spacing)
            except OptionError as error:
                problems.append(Problem.of(error, f"method.channels.{channel.code}"))
        for key, numbers in values_per_axis(self.decoder.options.model_dump()):
            if len(numbers) != self.ndim:
                rule = f"{list(numbers)} has {len(numbers)} numbers but the images have {self.ndim} axes"
                remedy = "Give one number, or one number per axis."
                problems.append(Problem(f"objects.decoder.{key}", rule, code="decoder.axes", value=numbers, remedy=remedy))
        return problems

    @classmethod
    def needs_object_sizes(cls, job: JobSections) -> bool:
        """Whether embeddings start at the radius of the objects, or the decoder drops small objects, and the job states no size."""
        method = cls(job.method, job.objects, ndim=2, spacing=(1.0, 1.0))
        return method._embedseg_options is not None and None in (method._embedseg_options.min_object_size, method._embedding_radius)

    @classmethod
    def planned(cls, job: JobSections, facts: Facts, network: Document) -> Document:
        """For embeddings: the initial radius is that of the median object, the least size of an object half that of the smallest."""
        method, sizes = cls(job.method, job.objects, ndim=2, spacing=(1.0, 1.0)), facts.sizes
        options = method._embedseg_options
        if sizes is None or options is None:
            return {}
        # half of the smallest object: noise is removed, but no object that is a little smaller than those of the training images
        least = sizes.smallest // 2 if options.min_object_size is None else options.min_object_size
        radius = round(sizes.radius, 1) if method._embedding_radius is None else method._embedding_radius
        channel = method.options.channels[0].model_dump(mode="json", by_alias=True)
        decoder = options.model_dump(mode="json", by_alias=True)
        return {
            "objects": {"decoder": {**decoder, "min_object_size": least}},
            "method": {"channels": [{**channel, "radius": radius}]},
        }

    @property
    def _embedseg_options(self) -> EmbedSegOptions | None:
        """Options of the decoder of embeddings; `None` for other decoders."""
        options = self.decoder.options
        return options if isinstance(options, EmbedSegOptions) else None

    @property
    def _embedding_radius(self) -> float | None:
        """Radius that bandwidths start at, where the job states one."""
        options = self.options.channels[0]
        return options.radius if isinstance(options, EmbeddingOptions) else None

    def head_features(self, features: int) -> int:
        """A convolution for heads with more outputs than the finest level has channels.

        Many rays that share few features stay near their mean for long: of 32 rays from 16 features, the short ones are predicted too
        long and the long ones too short.
        """
        if self.dimension_problems():  # reported with the planned job
            return 0
        return HEAD_FEATURES if max(self.heads.values()) > features else 0


class Channels(ChannelPlanning, ObjectScoring, Method):
    """The method `channels`."""

    options: Options
