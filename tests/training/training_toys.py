"""A small network, its losses and its data, for the tests of the loop and for the script that they start in two processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from morula.losses.dice import dice_sums
from morula.losses.regression import mse_sums
from morula.losses.sums import Sums


class Net(nn.Module):
    """Two convolutions, dropout and optionally batch norm; two heads."""

    def __init__(self, ndim: int = 2, *, norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        conv, batch_norm = (nn.Conv2d, nn.BatchNorm2d) if ndim == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.body = nn.Sequential(conv(1, 4, 3, padding=1), batch_norm(4) if norm else nn.Identity(), nn.ReLU(), nn.Dropout(dropout))
        self.heads = nn.ModuleDict({"F": conv(4, 1, 1), "D": conv(4, 1, 1)})

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = self.body(image)
        return {name: head(features) for name, head in self.heads.items()}


def network(seed: int = 0, **settings: Any) -> Net:
    torch.manual_seed(seed)
    return Net(**settings)


def loss(outputs: dict[str, Tensor], batch: dict[str, Any]) -> dict[str, Sums]:
    """A ratio and a mean with weights that differ from sample to sample."""
    distance = mse_sums(outputs["D"], batch["distance"], batch["weight"])
    return {
        "F": dice_sums(outputs["F"], batch["foreground"]),
        "D": Sums(distance.parts, partial(half, distance.value)),
    }


def half(value: Any, parts: Tensor) -> Tensor:
    return 0.5 * value(parts)


@dataclass
class Patches:
    """Samples by (epoch, number), dealt out so that N processes see together what one sees with batches N times as large."""

    batch: int = 2
    steps_per_epoch: int = 4
    validated: int = 3
    ndim: int = 2
    spoil: tuple[int, int] | None = None
    asked: list[tuple[int, int]] = field(default_factory=list)

    def sample(self, *key: int) -> dict[str, Any]:
        rng = np.random.default_rng(key)
        image = rng.random((1, *(8,) * self.ndim), dtype=np.float32)
        truth = (image > 0.4 + 0.2 * rng.random()).astype(np.float32)
        name = f"{'train' if key[0] == 0 else 'val'}{key[-1]}.tif"
        return {"image": image, "foreground": truth, "distance": truth * image, "weight": image > rng.random() * 0.9, "name": name}

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        arrays = {key: torch.from_numpy(np.stack([s[key] for s in samples])) for key in samples[0] if key != "name"}
        return {**arrays, "name": [s["name"] for s in samples]}

    def train(self, epoch: int, start: int, rank: int, world: int) -> Iterator[dict[str, Any]]:
        self.asked.append((epoch, start))
        for step in range(start, self.steps_per_epoch // world):
            first = (step * world + rank) * self.batch
            batch = self.collate([self.sample(0, epoch, first + i) for i in range(self.batch)])
            if self.spoil == (epoch, step):
                batch["image"][0] = torch.nan
            yield batch

    def validation(self, rank: int, world: int) -> Iterator[dict[str, Any]]:
        for number in range(rank, self.validated, world):
            yield self.collate([self.sample(1, number)])
