"""The training task of the method `channels`: targets and losses of its representations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from morula import losses, methods
from morula.core.label_image import compact_ids
from morula.labels.partial_labels import extrapolate_objects
from morula.methods.channel_layout import ChannelLayout
from morula.methods.classes import HEAD, class_loss, class_targets
from morula.methods.pictures import middle_plane, stretched
from morula.methods.training_task import Batch, Targets, TrainingTask
from morula.representations.base import Representation
from morula.representations.embedding import Embedding
from morula.representations.encode import encode_all
from morula.representations.evidence import foreground_reference
from morula.representations.options import RepresentationOptions

if TYPE_CHECKING:
    from torch import Tensor

    from morula.losses.sums import Sums

RAYS_OUTSIDE = 1e-4
"""Least weight of a voxel in the loss of R. Voxels are weighted by their probability to be a centre, as in StarDist; this weight keeps the
rays in the background near 0."""

GUESSED = 0.03
"""Weight of a target that was extrapolated into unannotated voxels, relative to those of the same channel that a painted slice shows."""


class ChannelTask(ChannelLayout, TrainingTask):
    """A network predicts the channels of the representations."""

    @property
    def probability_channels(self) -> bool:
        """Whether all have a sigmoid."""
        return all(representation.activation == "sigmoid" for representation in self.representations)

    @property
    def heads(self) -> dict[str, int]:
        """One head that carries all channels, or those of the options, named after their channels."""
        heads = {name: sum(self._outputs[index] for index in group) for name, group in self._groups.items()}
        return heads if self.options.classes is None else heads | {HEAD: self.options.classes.number}

    def _logits(self, outputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Logits of each representation, from the heads that carry them."""
        found: dict[int, Tensor] = {}
        for name, group in self._groups.items():
            found |= dict(zip(group, outputs[name].split([self._outputs[index] for index in group], dim=1)))
        return [self._from_start(found[index], representation) for index, representation in enumerate(self.representations)]

    def _from_start(self, logits: Tensor, representation: Representation[RepresentationOptions]) -> Tensor:
        """Logits of the embedding, with the logit of the initial bandwidth added."""
        if not isinstance(representation, Embedding) or representation.options.radius is None:
            return logits
        # a bias of the network would do the same but depend on its initial weights; an addition keeps the start exact
        added = logits.new_zeros(logits.shape[1])
        added[self.ndim : -1] = losses.sums.BANDWIDTH_STEPS * (representation.options.start - 1)
        return logits + added.reshape(-1, *(1,) * self.ndim)

    @property
    def context(self) -> tuple[int, ...]:
        """The largest context of any channel."""
        contexts = [representation.context(self.spacing) for representation in self.representations]
        return tuple(max(lengths) for lengths in zip(*contexts))

    def targets(
        self,
        labels: np.ndarray,
        classes: np.ndarray | None = None,
        unlabelled: np.ndarray | None = None,
        relevant: np.ndarray | None = None,
    ) -> Targets:
        """Encoded channels; distance-like channels are scored inside the foreground where another channel predicts it.

        Objects are extrapolated into an unlabelled part, so that nothing seems to end at its border, unless the options say otherwise;
        nothing is scored there. Objects that are not `relevant` are left out of channels of which each object has its own.
        """
        if unlabelled is not None:  # contours and distances at the border of the annotation would otherwise be wrong
            labels = self._beyond_annotation(labels, unlabelled)
        alone = None if relevant is None else np.where(relevant, labels, labels.dtype.type(0))
        channels = encode_all(self.representations, labels, self.spacing, alone)
        weights = np.ones_like(channels)
        inside = labels > 0
        reference = foreground_reference(self.representations)
        for representation, span in zip(self.representations, self._spans):
            if representation.masked and reference is not None and representation is not reference:
                # outside objects these channels have no meaning, and another channel already states the foreground
                weights[span] = inside
                if representation.star_rays:
                    weights[span] = np.maximum(self._probability(channels, inside), RAYS_OUTSIDE)
            guessed = unlabelled if self.options.extrapolate else None
            if guessed is not None and (annotated := representation.annotated_targets(guessed)) is not None:
                np.multiply(weights[span], np.float32(GUESSED), out=weights[span], where=~annotated)
        if self.options.classes is not None:
            more = class_targets(self.options.classes, labels, classes)
            channels, weights = (np.concatenate(parts) for parts in zip((channels, weights), more))
        if unlabelled is not None:  # last, because classes and extrapolated targets have weights of their own
            weights[:, unlabelled] = 0
        return Targets(channels, weights, labels if any(channel.embedding for channel in self.representations) else None)

    def _beyond_annotation(self, labels: np.ndarray, unlabelled: np.ndarray) -> np.ndarray:
        """Labels with ids in the unlabelled part, too: those of objects that are continued, or of one more object."""
        if self.options.extrapolate:
            return extrapolate_objects(labels, unlabelled, self.spacing)
        ids, largest = compact_ids(labels)
        return np.where(unlabelled, ids.dtype.type(largest + 1), ids)

    def _probability(self, channels: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Probability of a voxel to be a centre: the scaled distance to the boundary if that is a channel, else the foreground."""
        for representation, span in zip(self.representations, self._spans):
            if representation.depth == "boundary" and representation.activation == "sigmoid":
                return channels[span.start]
        return inside.astype(np.float32)

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Sums]:
        """One part per representation, or one of all."""
        targets, weights = batch["targets"], batch["weights"]
        if self.options.joint_loss:
            name, share = self.options.losses[self.codes[0]], self.options.weights.get(self.codes[0], 1.0)
            logits, more = losses.sums.joined(self._logits(outputs)), self.options.loss_options.get(name)
            return {"all": methods.loss_sums.loss_sums(name, logits, targets, weights, activation="sigmoid", share=share, options=more)}
        parts = {}
        for representation, span, logits in zip(self.representations, self._spans, self._logits(outputs)):
            if isinstance(representation, Embedding):
                parts[representation.code] = self._embedseg(representation, logits, targets[:, span], batch["instances"], weights[:, span])
                continue
            code, name = representation.code, self.options.losses.get(representation.code, representation.loss)
            weight = weights[:, span]
            stated, own = self.options.rebalance, representation.rebalance
            if name in ("bce", "bce_dice") and (stated or (stated is None and own)):
                weight = losses.rebalance.rebalance_weights(targets[:, span], weight, upweighted="rarer" if stated or own is None else own)
            share = self.options.weights.get(code, representation.loss_weight)
            target, unit = targets[:, span], self._units[code]
            target = target if unit == 1 else target / unit  # the network learns values near 1, whatever the length unit
            more = self.options.loss_options.get(name)
            parts[code] = methods.loss_sums.loss_sums(
                name, logits, target, weight, activation=representation.activation, share=share, options=more
            )
        if self.options.classes is not None:
            rest = slice(self._width, None)
            parts[HEAD] = class_loss(self.options.classes, outputs[HEAD], targets[:, rest], weights[:, rest])
        return parts

    def _embedseg(self, representation: Embedding, logits: Tensor, targets: Tensor, instances: Tensor, weights: Tensor) -> Sums:
        options, share = representation.options, self.options.weights.get(representation.code, 1.0)
        parts = losses.embedseg.EmbedSegWeights(
            share * options.instance_weight, share * options.variance_weight, share * options.seed_weight, options.foreground_weight
        )
        return losses.embedseg.embedseg_sums(logits, targets, instances, weights, units=options.units(self.spacing).tolist(), weights=parts)

    def activate(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Every channel through its representation's activation."""
        channels = []  # in the order of the options, not of the heads
        for logits, representation in zip(self._logits(outputs), self.representations):
            values, unit = losses.sums.activate(logits, representation.activation), self._units[representation.code]
            channels.append(values if unit == 1 else values * unit)
        classes = [] if self.options.classes is None else [outputs[HEAD].softmax(dim=1)]
        return losses.sums.joined([*channels, *classes])

    def preview(self, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """The image, then target over prediction of every channel, side by side; voxels that are not scored are black."""
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
        firsts = [span.stop - 1 if channel.embedding else span.start for channel, span in zip(self.representations, self._spans)]
        return firsts + list(range(self._width, len(self.channels)))

    def preview_titles(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Target above prediction; a column per channel after the image."""
        return ("target", "prediction"), ("image", *(self.channels[i] for i in self._previewed))


def _unit(plane: np.ndarray) -> np.ndarray:
    """A channel for display: values in [0, 1] stay, a wider range is scaled to it."""
    low, high = min(float(plane.min()), 0.0), max(float(plane.max()), 1.0)
    return ((plane - low) / (high - low)).astype(np.float32)
