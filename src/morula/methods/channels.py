"""Instances through channels: a network predicts them from the image, a decoder makes objects of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from morula.core.errors import OptionError
from morula.core.orientation import Orientation
from morula.core.variants import ManyOf
from morula.losses import LOSSES
from morula.methods.base import Method, Sizes, Targets, middle_plane, stretched
from morula.methods.classes import HEAD, ObjectClasses, class_loss, class_targets, vote
from morula.methods.options import MethodOptions
from morula.methods.scoring import (
    OF_CLASSES,
    OF_PROBABILITIES,
    LossArguments,
    check_loss_options,
    check_losses,
    object_settings,
    one_an_axis,
    unknown_loss,
)
from morula.representations import REPRESENTATIONS
from morula.representations.options import RepresentationOptions

if TYPE_CHECKING:
    from torch import Tensor

    from morula.decoders.decode import Objects
    from morula.decoders.statistics import ChannelStatistics
    from morula.losses.sums import Sums

ChannelList = Annotated[tuple[RepresentationOptions, ...], ManyOf(REPRESENTATIONS)]


RAYS_OUTSIDE = 1e-4
"""Least weight of a voxel in the loss of R, where others count by how sure they are to be a centre: holds rays in the background near 0,
as StarDist does."""

GUESSED = 0.03
"""Weight of a target that was guessed of what nobody has looked at, beside those of the same channel that were seen in a slice."""


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "stardist": {"channels": {"Db": {}, "R": {}}, "losses": {"Db": "bce"}},
    "embedseg": {"channels": {"E": {}}},
    "affinities": {"channels": {"A": {"reach": (1, 3, 9)}}},
    "flows": {"channels": {"F": {}, "G": {}}},
}
"""Ways of published programs: channels and losses by name. The decoder follows from the channels."""


class Options(MethodOptions):
    """Channels to be predicted, and how each is scored while training."""

    kind: Literal["channels"] = "channels"
    """Name of the variant."""

    preset: Literal["stardist", "embedseg", "affinities", "flows"] | None = None
    """Channels and losses of a published way: Db and R as in StarDist, E as in EmbedSeg, A with long-range affinities, F and G as in
    Cellpose. What is stated beside it goes before it; channels must then have the same codes."""
    channels: ChannelList = Field(
        default=("F", "C", "Db"),  # type: ignore[arg-type]  # names become options when the default is validated
        min_length=1,
        description="Channels by code, each with its options, in the order of the network's outputs.",
    )
    heads: tuple[tuple[str, ...], ...] = ()
    """Codes of the channels that leave the network through an output layer of their own, group by group; left out: all through one. With
    the network's `separate_decoders` each group has a decoder of its own."""
    classes: ObjectClasses | None = None
    """Classes of the objects, by number, names, or both: a further head tells one for every voxel, the voxels of an object vote. The
    classes come from the second channel of the labels, or from class images (`images.train.classes`)."""
    losses: dict[str, str] = Field({})
    """Loss of a channel by its code; what is left out uses the channel's own."""
    loss_options: dict[str, LossArguments] = Field({})
    """Further arguments of losses by name, for example `{bce_dice: {squared: true, smooth: 0, shares: [1, 0.5]}}` or
    `{bce: {positive_weights: 3}}`."""
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field({})
    """Weight of a channel's loss by its code; where left out 1, for R 0.25; 0 for a channel that is not learned."""
    rebalance: bool | None = None
    """Give the rarer class of a binary channel the same weight as the common one, batch by batch; it is then drawn too large. Left out, for
    P, since a network that never predicts a centre would be right almost everywhere, and for A where voxels that part are the rarer ones,
    as in tissue without background."""
    thresholds: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field((0.5, 0.75, 0.9), min_length=1)
    """Intersection over union from which an object counts as found, in the scores."""

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, values: Any) -> Any:
        preset = values.get("preset") if isinstance(values, Mapping) else None
        return {**PRESETS[preset], **values} if isinstance(preset, str) and preset in PRESETS else values

    @field_validator("losses")
    @classmethod
    def _losses_exist(cls, value: dict[str, str]) -> dict[str, str]:
        for code, name in value.items():
            if name not in LOSSES.names and (code, name) != ("E", "embedseg"):
                raise ValueError(f"{code}: {unknown_loss(name, LOSSES.names)}")
        return value

    @model_validator(mode="after")
    def _codes_stand(self) -> Options:
        check_loss_options(self.loss_options)
        codes = [channel.kind for channel in self.channels]
        wanted = list(PRESETS[self.preset]["channels"]) if self.preset else codes
        if codes != wanted:
            raise ValueError(f"channels are {', '.join(codes)} but the preset {self.preset!r} has {', '.join(wanted)}; drop one of the two")
        if self.heads and sorted(code for group in self.heads for code in group) != sorted(codes):
            groups = "; ".join(", ".join(group) for group in self.heads)
            raise ValueError(f"heads are {groups}, but each of the channels {', '.join(codes)} must stand in one of them")
        if len(set(codes)) != len(codes):
            raise ValueError(f"channels {', '.join(codes)} name one channel twice; each stands once")
        for what, given in (("losses", self.losses), ("weights", self.weights)):
            surplus = set(given) - set(codes)
            if surplus:
                raise ValueError(f"{what} names {', '.join(sorted(surplus))}, which is not among the channels {', '.join(codes)}")
        stated = {code: name for code, name in self.losses.items() if (code, name) != ("E", "embedseg")}
        if "E" in stated:
            raise ValueError(f"the loss of E is 'embedseg', not {stated['E']!r}; its parts have weights among the options of E")
        for channel in self.channels:  # only discretised distances are classes that exclude each other
            check_losses([stated[channel.kind]] if channel.kind in stated else (), without=() if channel.holds_classes else OF_CLASSES)
        return self


class Channels(Method):
    """The method `channels`."""

    instances: ClassVar[bool] = True
    figures: ClassVar[tuple[str, ...]] = ("f1", "panoptic_quality", "precision", "recall", "accuracy")

    @classmethod
    def problems(cls, options: Any, objects: Any) -> list[tuple[str, str]]:
        """Channels that no decoder makes objects of, or not the one that is named."""
        from morula.decoders.foreground_mask import foreground_channel

        made = cls(options, objects, ndim=2, spacing=(1.0, 1.0))
        unlike = made._unlike_losses()
        if unlike:
            return unlike
        try:
            _ = made.decoder
        except OptionError as error:
            return [("method.channels" if objects.decoder is None else "objects.decoder", str(error))]
        try:
            for operation in made._tessellations:
                foreground_channel(made.representations, operation.channel)
        except OptionError as error:
            return [("objects.refine", str(error))]
        return []

    def _unlike_losses(self) -> list[tuple[str, str]]:
        """Losses of probabilities where a channel holds none: the network would learn other values than it is asked for."""
        return [
            (
                "method.losses",
                f"the loss of {each.code} is {name!r}, which learns probabilities, but {each.code} has the activation {each.activation} "
                f"and holds other values. Use {', '.join(loss for loss in LOSSES.names if loss not in (*OF_PROBABILITIES, 'ce'))}.",
            )
            for each in self.representations
            if (name := self.options.losses.get(each.code)) in OF_PROBABILITIES and each.activation != "sigmoid"
        ]

    def misfits(self) -> list[tuple[str, str]]:
        """Options of channels for images of other dimensions."""
        found = []
        for each in self.representations:
            if each.code == "Z" and self.ndim == 2:
                found.append(("method.channels.Z", "Z is the way to the centre along z, which 2D images do not have. Leave it out."))
            try:
                each.encode(np.ones((4,) * self.ndim, np.uint32), self.spacing)
            except OptionError as error:
                found.append((f"method.channels.{each.code}", str(error)))
        for key, numbers in one_an_axis(self.decoder.options.model_dump()):
            if len(numbers) != self.ndim:
                said = f"{list(numbers)} has {len(numbers)} numbers but the images have {self.ndim} axes. Give one number, or one an axis."
                found.append((f"objects.decoder.{key}", said))
        return found

    @classmethod
    def asks_for_sizes(cls, job: Any) -> bool:
        """Where bandwidths begin at the radius of the objects or the decoder leaves out small ones, and the job does not say how large."""
        made = cls(job.method, job.objects, ndim=2, spacing=(1.0, 1.0))
        return None in (getattr(made.decoder.options, "min_object_size", 0), getattr(made.options.channels[0], "radius", 0))

    @classmethod
    def planned(cls, job: Any, sizes: Sizes | None = None) -> dict[str, Any]:
        """Of embeddings: the radius to begin with, that of the median object, and the least size of an object, half the smallest one's."""
        if sizes is None:
            return {}
        decoder = cls(job.method, job.objects, ndim=2, spacing=(1.0, 1.0)).decoder.options.model_dump(mode="json", by_alias=True)
        least = decoder["min_object_size"]
        process = {"kind": "embedseg", **decoder, "min_object_size": sizes.smallest // 2 if least is None else least}
        channel = job.method.channels[0].model_dump(mode="json", by_alias=True)
        radius = round(sizes.radius, 1) if channel["radius"] is None else channel["radius"]
        return {"objects": {"decoder": process}, "method": {"channels": [{**channel, "radius": radius}]}}

    @cached_property
    def representations(self) -> list[Any]:
        """One object a channel, in order."""
        return [REPRESENTATIONS.load(channel.kind)(channel) for channel in self.options.channels]

    @cached_property
    def codes(self) -> list[str]:
        """Codes of the channels, in order."""
        return [representation.code for representation in self.representations]

    @cached_property
    def _spans(self) -> list[slice]:
        """Where each representation lies among the physical channels."""
        ends = np.cumsum([representation.width(self.ndim) for representation in self.representations])
        return [slice(int(end) - representation.width(self.ndim), int(end)) for end, representation in zip(ends, self.representations)]

    @cached_property
    def _outputs(self) -> list[int]:
        """Number of the network's outputs for each representation."""
        return [representation.outputs(self.ndim) for representation in self.representations]

    @cached_property
    def _groups(self) -> dict[str, list[int]]:
        """Numbers of the representations in each head, in the head's order."""
        if not self.options.heads:
            return {"channels": list(range(len(self.codes)))}
        return {"_".join(group): [self.codes.index(code) for code in group] for group in self.options.heads}

    @property
    def object_classes(self) -> ObjectClasses | None:
        """Classes of the objects, as stated in the job."""
        return self.options.classes

    @property
    def heads(self) -> dict[str, int]:
        """One head that carries all channels, or those of the options, named after their channels."""
        heads = {name: sum(self._outputs[index] for index in group) for name, group in self._groups.items()}
        return heads if self.options.classes is None else heads | {HEAD: self.options.classes.number}

    @cached_property
    def _units(self) -> dict[str, float]:
        """What an output of 1 of the network stands for, by code."""
        return {representation.code: representation.unit(self.spacing) for representation in self.representations}

    @property
    def _width(self) -> int:
        """Number of physical channels, classes aside."""
        return self._spans[-1].stop

    def _logits(self, outputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Logits of each representation, from the heads that carry them."""
        found: dict[int, Tensor] = {}
        for name, group in self._groups.items():
            found |= dict(zip(group, outputs[name].split([self._outputs[index] for index in group], dim=1)))
        return [self._from_start(found[index], representation) for index, representation in enumerate(self.representations)]

    def _from_start(self, logits: Tensor, representation: Any) -> Tensor:
        """Logits of the embedding, with that of the bandwidth to begin with added."""
        if not representation.embedding or representation.options.radius is None:
            return logits
        from morula.losses.sums import BANDWIDTH_STEPS

        added = logits.new_zeros(logits.shape[1])
        added[self.ndim : -1] = BANDWIDTH_STEPS * (representation.options.start - 1)
        return logits + added.reshape(-1, *(1,) * self.ndim)

    @cached_property
    def channels(self) -> tuple[str, ...]:
        """Codes, numbered where a representation has several channels; then the classes of objects."""
        own = tuple(
            code if span.stop - span.start == 1 else f"{code}{i}"
            for code, span in zip(self.codes, self._spans)
            for i in range(span.stop - span.start)
        )
        return own if self.options.classes is None else (*own, *self.options.classes.titles)

    @property
    def context(self) -> tuple[int, ...]:
        """The largest context of any channel."""
        each = [representation.context(self.spacing) for representation in self.representations]
        return tuple(max(axis) for axis in zip(*each))

    def targets(
        self,
        labels: np.ndarray,
        classes: np.ndarray | None = None,
        unlabelled: np.ndarray | None = None,
        relevant: np.ndarray | None = None,
    ) -> Targets:
        """Encoded channels; distance-like channels are scored inside the foreground where another channel tells it.

        Objects are extrapolated into an unlabelled part, so that nothing seems to end at its border; nothing is scored there. Objects
        that are not `relevant` are left out of channels of which each object has its own.
        """
        from morula.labels.partial_labels import extrapolate_objects
        from morula.representations.encode import encode_all
        from morula.representations.evidence import foreground_reference

        if unlabelled is not None:
            labels = extrapolate_objects(labels, unlabelled, self.spacing)
        alone = None if relevant is None else np.where(relevant, labels, labels.dtype.type(0))
        channels = encode_all(self.representations, labels, self.spacing, alone)
        weights = np.ones_like(channels)
        inside = labels > 0
        reference = foreground_reference(self.representations)
        for representation, span in zip(self.representations, self._spans):
            if representation.masked and reference is not None and representation is not reference:
                weights[span] = inside
                if representation.star_rays:
                    weights[span] = np.maximum(self._probability(channels, inside), RAYS_OUTSIDE)
            if unlabelled is not None and (seen := representation.annotated_targets(unlabelled)) is not None:
                np.multiply(weights[span], np.float32(GUESSED), out=weights[span], where=~seen)
        if self.options.classes is not None:
            more = class_targets(self.options.classes, labels, classes)
            channels, weights = (np.concatenate(parts) for parts in zip((channels, weights), more))
        if unlabelled is not None:
            weights[:, unlabelled] = 0
        return Targets(channels, weights, labels if any(channel.embedding for channel in self.representations) else None)

    def _probability(self, channels: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """How sure a voxel is to be taken for an object's centre: the scaled distance to the boundary where it is a channel."""
        for representation, span in zip(self.representations, self._spans):
            if representation.depth == "boundary" and representation.activation == "sigmoid":
                return channels[span.start]
        return inside.astype(np.float32)

    def loss(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Any]) -> dict[str, Sums]:
        """One part a representation."""
        from morula.losses.rebalance import rebalance_weights
        from morula.methods.scoring import loss_sums

        targets, weights = batch["targets"], batch["weights"]
        parts = {}
        for representation, span, logits in zip(self.representations, self._spans, self._logits(outputs)):
            if representation.loss == "embedseg":
                parts[representation.code] = self._embedseg(representation, logits, targets[:, span], batch["instances"], weights[:, span])
                continue
            code, name = representation.code, self.options.losses.get(representation.code, representation.loss)
            weight = weights[:, span]
            stated, own = self.options.rebalance, representation.rebalance
            if name in ("bce", "bce_dice") and (stated or (stated is None and own)):
                weight = rebalance_weights(targets[:, span], weight, upweighted="rarer" if stated or own is None else own)
            share = self.options.weights.get(code, representation.loss_weight)
            target, unit = targets[:, span], self._units[code]
            target = target if unit == 1 else target / unit
            more = self.options.loss_options.get(name)
            parts[code] = loss_sums(name, logits, target, weight, activation=representation.activation, share=share, options=more)
        if self.options.classes is not None:
            rest = slice(self._width, None)
            parts[HEAD] = class_loss(self.options.classes, outputs[HEAD], targets[:, rest], weights[:, rest])
        return parts

    def _embedseg(self, representation: Any, logits: Tensor, targets: Tensor, instances: Tensor, weights: Tensor) -> Sums:
        from morula.losses.embedseg import EmbedSegWeights, embedseg_sums

        options, share = representation.options, self.options.weights.get(representation.code, 1.0)
        parts = EmbedSegWeights(
            share * options.instance_weight, share * options.variance_weight, share * options.seed_weight, options.foreground_weight
        )
        return embedseg_sums(logits, targets, instances, weights, units=options.units(self.spacing).tolist(), weights=parts)

    def activate(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Every channel through its representation's activation."""
        import torch

        from morula.losses.sums import activate

        channels = []
        for logits, representation in zip(self._logits(outputs), self.representations):
            values, unit = activate(logits, representation.activation), self._units[representation.code]
            channels.append(values if unit == 1 else values * unit)
        classes = [] if self.options.classes is None else [outputs[HEAD].softmax(dim=1)]
        return torch.cat([*channels, *classes], dim=1)

    def reorient(self, prediction: Any, orientation: Orientation) -> Any:
        """Every channel as its representation turns; offsets along the axes exchange."""
        from morula.representations.reorient import reorient

        return reorient(self.representations, prediction, orientation)

    def orientations(self) -> list[Orientation]:
        """The intersection over the channels."""
        from morula.representations.reorient import common_orientations

        return common_orientations(self.representations, self.spacing)

    @cached_property
    def decoder(self) -> Any:
        """The decoder that the job names, or the one that fits the channels."""
        from morula.decoders.decode import build_decoder

        return build_decoder(self.representations, self.objects.decoder)

    @property
    def counted(self) -> Sequence[int]:
        """Those of the decoder, and of the inside where the objects are to cover it."""
        from morula.decoders.foreground_mask import foreground_codes

        codes = (*self.decoder.counted, *(foreground_codes(self.representations) if self._tessellations else ()))
        return [span.start for code, span in zip(self.codes, self._spans) if code in codes]

    def fit(self, statistics: ChannelStatistics) -> dict[str, Any]:
        """The decoder's parameters, and the thresholds of the inside where the objects are to cover it."""
        from morula.decoders.foreground_mask import fit_foreground

        statistics = statistics.first(self._width)
        parameters = self.decoder.fit(statistics)
        return {**parameters, "inside": fit_foreground(self.representations, statistics)} if self._tessellations else parameters

    @cached_property
    def _tessellations(self) -> list[Any]:
        """Operations of the refinement that need the inside."""
        return [operation for operation in self.objects.refine if operation.kind == "voronoi"]

    def decode(self, prediction: np.ndarray, parameters: Mapping[str, Any]) -> Objects:
        """Objects of the decoder, refined as the job says; with classes, the vote of their voxels."""
        from morula.decoders.foreground_mask import foreground_mask
        from morula.labels.refine import refine_objects

        prediction, classes = prediction[: self._width], prediction[self._width :]

        def inside(options: Any) -> np.ndarray:
            fitted = parameters["inside"]
            return foreground_mask(prediction, self.representations, fitted, code=options.channel, threshold=options.threshold)

        objects = self.decoder.decode(prediction, parameters, self.spacing)
        objects = refine_objects(objects, self.objects.refine, self.spacing, mask=inside)
        if self.options.classes is None:
            return objects
        chosen, share = vote(objects.labels, classes, len(objects))
        return replace(objects, classes=chosen, class_confidence=share)

    def search_space(self, truths: Sequence[np.ndarray]) -> dict[str, tuple[Any, ...]]:
        """That of the decoder, then the operations on objects."""
        from morula.decoders.decode import decoder_name

        return object_settings(decoder_name(self.representations, self.objects.decoder), self.decoder, self.objects, truths)

    def score(self, truth: np.ndarray, result: np.ndarray) -> Any:
        """Matching scores at the thresholds of the options."""
        from morula.metrics.matching import match

        return match(truth, result, thresholds=self.options.thresholds)

    def score_rows(self, scores: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A row an image and threshold, then the pooled ones."""
        from dataclasses import asdict

        from morula.metrics.matching import pool

        rows = [{"image": name, **asdict(score)} for name, each in scores.items() for score in each]
        return rows + [{"image": "pooled", **asdict(score)} for score in pool(list(scores.values()))] if scores else rows

    def preview(self, batch: Mapping[str, Any], outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """The image, then target over prediction of every channel, side by side; what is not scored is left dark."""
        image = stretched(middle_plane(batch["image"][0, 0].float().cpu().numpy()))
        scored = batch["weights"][0].cpu().numpy() > 0
        predicted = self.activate(outputs)[0].float().cpu().numpy() * scored
        targets = batch["targets"][0].float().cpu().numpy()
        columns = [np.vstack([image, image])]
        columns += [np.vstack([_unit(middle_plane(targets[i])), _unit(middle_plane(predicted[i]))]) for i in self._previewed]
        return {"channels": np.hstack(columns)}

    @property
    def _previewed(self) -> list[int]:
        """Channels that a preview shows: the first one of each representation, of an embedding the seeds."""
        firsts = [span.stop - 1 if each.embedding else span.start for each, span in zip(self.representations, self._spans)]
        return firsts + list(range(self._width, len(self.channels)))

    def preview_titles(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Target above prediction; a column per channel after the image."""
        return ("target", "prediction"), ("image", *(self.channels[i] for i in self._previewed))


def _unit(plane: np.ndarray) -> np.ndarray:
    """A channel for the eye: [0, 1] as it is, anything wider scaled."""
    low, high = min(float(plane.min()), 0.0), max(float(plane.max()), 1.0)
    return ((plane - low) / (high - low)).astype(np.float32)
