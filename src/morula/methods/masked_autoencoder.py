"""Pretraining without labels: boxes of the image are hidden, and a transformer predicts them from the visible ones.

A patch is divided into boxes (the tokens of the transformer). The mask has one value per box::

    mask: grid           mask: random, ratio: 0.75
    # . # .              # # . #        #  hidden: predicted, scored
    . # . #              # . # #        .  visible: input of the encoder
    # . # .              . # # #
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from morula import losses, nn
from morula.core.errors import Problem
from morula.methods.masked_autoencoder_options import Options
from morula.methods.pictures import middle_plane, stretched
from morula.methods.planning import Document, Facts, JobSections
from morula.methods.restoring import HEAD, Restoring
from morula.methods.training_task import Batch, first_image
from morula.nn.transformer_options import TransformerOptions

if TYPE_CHECKING:
    from torch import Tensor

    from morula.losses.sums import Sums


class MaskedAutoencoder(Restoring):
    """The method `masked_autoencoder`."""

    options: Options
    network: ClassVar[str | None] = "mae"
    folder: ClassVar[str] = "MAE_checks"
    # visible boxes are never scored in training, so the score of the whole reconstruction says little; the first one is the usual score
    compared: ClassVar[dict[str, str]] = {"reconstruction_and_visible": "", "reconstruction": "_everywhere"}

    @classmethod
    def job_problems(cls, job: JobSections) -> list[Problem]:
        """A patch that does not hold several whole boxes; boxes of another size than those of the network; test-time augmentation."""
        assert isinstance(job.method, Options)
        assert isinstance(job.network, TransformerOptions)
        patch, token = job.sampling.patch_shape, job.network.token_size(len(job.sampling.patch_shape))
        problems = []
        if any(n % edge for n, edge in zip(patch, token, strict=True)) or math.prod(patch) <= math.prod(token):
            fitting = [max(1, round(n / edge)) * edge for n, edge in zip(patch, token, strict=True)]
            rule = f"{list(patch)} must hold several whole boxes of network.token {list(token)}"
            remedy = f"Use {fitting} or larger."
            problems.append(Problem("sampling.patch", rule, code="masked_autoencoder.patch", value=patch, remedy=remedy))
        if tuple(job.method.token or ()) != token:
            rule = f"{list(job.method.token or ())} differs from network.token {list(token)}"
            problems.append(Problem("method.token", rule, code="masked_autoencoder.token", value=job.method.token, remedy="Leave it out."))
        if job.prediction.tta != "none":
            rule, remedy = "has no effect with masks", "Leave it out."
            problems.append(Problem("prediction.tta", rule, code="masked_autoencoder.tta", value=job.prediction.tta, remedy=remedy))
        return problems

    @classmethod
    def planned(cls, job: JobSections, facts: Facts, network: Document) -> Document:
        """The size of the network's boxes, and the number of channels of the images."""
        assert isinstance(job.method, Options)
        token = network["token"]
        edges = [token] * facts.ndim if isinstance(token, int) else token
        document = super().planned(job, facts, network)
        return {"method": {**document.get("method", {}), **({"token": edges} if job.method.token is None else {})}}

    @property
    def token(self) -> tuple[int, ...]:
        """Edges of a box in voxels, (Z)YX."""
        return tuple(self.options.token or (16,) * self.ndim)

    def pretext(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The mask of a patch, one value per box."""
        return {"hidden": self.draw_mask(tuple(n // edge for n, edge in zip(image.shape[1:], self.token, strict=True)), rng)}

    def draw_mask(self, grid: Sequence[int], rng: np.random.Generator) -> np.ndarray:
        """A mask of the boxes, true where they are hidden."""
        return chessboard(grid, rng) if self.options.mask == "grid" else random_mask(grid, self.options.ratio, rng)

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Sums]:
        """Mean squared difference in the hidden boxes."""
        target, hidden = batch["image"].float(), batch["hidden"]
        if self.options.normalise_boxes:
            boxes = nn.mae.image_to_boxes(target, self.token)
            target = nn.mae.boxes_to_image(_scaled(boxes)[0], tuple(hidden.shape[1:]), self.token)
        return {"hidden": losses.regression.mse_sums(outputs[HEAD], target, batch["weights"] * self.voxel_mask(hidden).to(target.dtype))}

    def voxel_mask(self, hidden: Tensor) -> Tensor:
        """A mask of boxes (N, *grid) as a mask of voxels, N1(Z)YX."""
        for axis, edge in enumerate(self.token, start=1):
            hidden = hidden.repeat_interleave(edge, dim=axis)
        return hidden[:, None]

    def on_image_scale(self, output: Tensor, image: Tensor) -> Tensor:
        """The output of the network on the scale of the image: normalised boxes get back the mean and the deviation of the image there."""
        if not self.options.normalise_boxes:
            return output
        _, mean, deviation = _scaled(nn.mae.image_to_boxes(image, self.token))
        boxes = nn.mae.image_to_boxes(output, self.token) * deviation + mean
        grid = tuple(n // edge for n, edge in zip(image.shape[2:], self.token, strict=True))
        return nn.mae.boxes_to_image(boxes, grid, self.token)

    def task(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image, and the mask as a further channel."""
        # images need not be a whole number of boxes: the mask is drawn for more boxes, then cut
        grid = tuple(-(-n // edge) for n, edge in zip(image.shape[1:], self.token, strict=True))
        hidden = self.draw_mask(grid, rng)
        for axis, edge in enumerate(self.token):
            hidden = hidden.repeat(edge, axis=axis)
        hidden = hidden[tuple(slice(n) for n in image.shape[1:])]
        return np.concatenate([image, hidden[None].astype(np.float32)])

    def restore(self, network: Callable[..., Mapping[str, Tensor]], batch: Tensor) -> Tensor:
        """The reconstruction of tiles, one at a time, because tiles may hide different numbers of boxes.

        In a tile without a visible box the first box is made visible, because the encoder needs an input.
        """
        restored = []
        for tile in batch.split(1):
            image, where = tile[:, :-1], tile[:, -1:]
            hidden = (nn.mae.image_to_boxes(where, self.token) > 0.5).any(dim=-1)  # the mirrored border of the image may cut through a box
            hidden[:, 0] &= ~hidden.all(dim=1)
            grid = tuple(n // edge for n, edge in zip(image.shape[2:], self.token, strict=True))
            restored.append(self.on_image_scale(network(image, hidden=hidden.reshape(1, *grid))[HEAD], image))
        return losses.sums.joined(restored, axis=0)

    def in_units(self, task: np.ndarray, undo: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The image in its own units; the mask is not changed."""
        return np.concatenate([undo(task[:-1]), task[-1:]])

    def pictures(self, image: np.ndarray, task: np.ndarray, result: np.ndarray) -> dict[str, np.ndarray]:
        """The image, its visible part (zero elsewhere), the reconstruction, and the reconstruction with the visible boxes of the image."""
        hidden = task[-1:] > 0.5
        return {
            "original": image,
            "masked": np.where(hidden, 0, image),
            "reconstruction": result,
            "reconstruction_and_visible": np.where(hidden, result, image),
        }

    def preview(self, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Side by side: the image, its visible part, the reconstruction, and the reconstruction with the visible boxes of the image."""
        planes = [middle_plane(images[0, 0].numpy()) for images in self._stages(batch, outputs).values()]
        return {"masked_autoencoder": stretched(np.hstack(planes))}

    def arrays(self, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """The image, its visible part, the reconstruction, and the reconstruction with the visible boxes of the image."""
        return {name: first_image(images) for name, images in self._stages(batch, outputs).items()}

    def _stages(self, batch: Batch, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        image, hidden = batch["image"][:1].float().cpu(), self.voxel_mask(batch["hidden"][:1].cpu())
        rebuilt = self.on_image_scale(outputs[HEAD][:1].float().cpu(), image)
        visible = image.masked_fill(hidden, float(image.min()))
        return {"input": image, "visible part": visible, "reconstruction": rebuilt, "reconstructed boxes": rebuilt.where(hidden, image)}

    def preview_titles(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """One row."""
        return (), ("image", "visible part", "reconstruction", "reconstruction of hidden boxes")


def _scaled(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (N, L, values) at mean 0 and standard deviation 1, and their means and deviations."""
    # the small summand keeps constant boxes finite
    mean, deviation = boxes.mean(dim=-1, keepdim=True), (boxes.var(dim=-1, keepdim=True) + 1e-6).sqrt()
    return (boxes - mean) / deviation, mean, deviation


def chessboard(grid: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """A mask that hides every second box of a grid along each axis, like one colour of a chessboard.

    Which colour is hidden is drawn, if both have equally many boxes.

    Examples:
        >>> chessboard((1, 3), np.random.default_rng(0)).tolist()
        [[True, False, True]]
    """
    parity = np.indices(grid).sum(axis=0) % 2
    phase = int(rng.integers(2)) if math.prod(grid) % 2 == 0 else 0  # all samples of a batch must hide the same number
    return parity == phase


def random_mask(grid: Sequence[int], ratio: float, rng: np.random.Generator) -> np.ndarray:
    """A mask that hides a share of the boxes of a grid, rounded to whole boxes; at least one box is hidden and one visible.

    Examples:
        >>> int(random_mask((4, 5), 0.75, np.random.default_rng(0)).sum())
        15
    """
    length = math.prod(grid)
    count = min(max(1, round(length * ratio)), length - 1)
    hidden = np.zeros(length, bool)
    hidden[rng.permutation(length)[:count]] = True
    return hidden.reshape(tuple(grid))
