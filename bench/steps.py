"""Rows `mae_step` and `unet_steps`: training steps beside BiaPy's, of the same networks, in one process by turns.

BiaPy is no dependency. Install it beside Morula (`pip install biapy==3.7.1`) where these rows are measured.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from figures import Figure, Result, figure
from unet3d import cpu_seconds

Step = Callable[[], object]
NOTE = (
    "Both programs run alternately in one process after a first step each; medians of CPU-seconds. AdamW, fp32 in both programs unless "
    "bf16 is named, {threads} thread(s), the same initial weights. The step of Morula is a whole step of its training loop; the step of "
    "BiaPy is its network and loss, its check for finite gradients and its optimiser, without the metrics of each step. BiaPy {release}."
)


@dataclass(frozen=True)
class Once:
    """A data source for the training loop that repeats one batch."""

    batch: dict[str, Any]
    steps_per_epoch: int = 1000

    def train(self, epoch: int, start: int, rank: int, world: int) -> Iterator[dict[str, Any]]:
        """The batch, endlessly."""
        while True:
            yield self.batch

    def validation(self, rank: int, world: int) -> Iterator[dict[str, Any]]:
        """No validation batches."""
        return iter(())


def own_step(network: Any, loss: Callable[..., Any], batch: dict[str, Any], precision: str = "fp32") -> Step:
    """A step of the training loop."""
    from morula.training.options import Training
    from morula.training.state import TrainingState

    options = Training(epochs=1, precision=precision, device="cpu", optimiser={"kind": "adamw", "lr": 1e-4, "weight_decay": 0.02})
    run = TrainingState(network, loss, Once(batch), options, folder=Path(mkdtemp()))
    return lambda: run.step(run.fetch())


def their_step(network: Any, loss: Callable[[], Any]) -> Step:
    """A step as BiaPy's `train_one_epoch` takes it, without its metrics."""
    import torch
    from biapy.config.config import Config
    from biapy.engine import prepare_optimizer

    config = Config("", "").get_cfg_defaults()
    config.TRAIN.OPTIMIZER, config.TRAIN.LR = ["ADAMW"], [1e-4]
    with contextlib.redirect_stdout(io.StringIO()):
        (optimiser,), _ = prepare_optimizer(config, network.train(), 1000)

    def call() -> None:
        value = loss()
        assert np.isfinite(value.item())
        value.backward()
        assert all(weight.grad is None or bool(torch.isfinite(weight.grad).all()) for weight in network.parameters())
        optimiser.step()
        optimiser.zero_grad()

    return call


def beside(name: str, steps: dict[str, Step], pairs: int, bar: float) -> list[Figure]:
    """Seconds of each step, and the ratio of ours to BiaPy's, which is the last one in `steps`."""
    runs: dict[str, list[float]] = {program: [] for program in steps}
    for step in steps.values():
        step()
    for number in range(pairs):
        for program, step in list(steps.items())[:: -1 if number % 2 else 1]:
            runs[program].append(cpu_seconds(step))
    *own, theirs = runs
    figures = [figure(f"{name}: {program}", "CPU-s", seconds, value=statistics.median(seconds)) for program, seconds in runs.items()]
    for program in own:
        ratios = [a / b for a, b in zip(runs[program], runs[theirs], strict=True)]
        what, held = f"{name}: {program} / {theirs}", bar if program == "morula" else None
        figures.append(figure(what, "x", ratios, held, value=statistics.median(ratios)))
    return figures


def measured(
    title: str, about: str, cases: dict[str, Callable[[], dict[str, Step]]], bar: float, before: Result | None, options: argparse.Namespace
) -> Iterator[Result]:
    """The cases in order, stored as soon as they are measured."""
    import torch

    try:
        release = version("biapy")
    except PackageNotFoundError:
        print(f"{title}: left out; it needs BiaPy and Morula in one environment (pip install biapy==3.7.1)", flush=True)
        return
    torch.set_num_threads(options.threads)
    done: dict[str, list[Figure]] = dict(before["cases"]) if before else {}
    for name, make in cases.items():
        if name not in done:
            done[name] = beside(name, make(), options.pairs, bar)
        yield {
            "title": title,
            "note": f"{about} {NOTE.format(threads=options.threads, release=release)}",
            "complete": len(done) == len(cases),
            "cases": done,
            "figures": [line for figures in done.values() for line in figures],
        }


# --- masked autoencoder ------------------------------------------------------------------------------------------------------------------


def mae_step(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """The masked autoencoder of BiaPy's documentation."""
    cases = {f"batch of {batch}": lambda batch=batch: _autoencoders(batch) for batch in (1, 4)}
    about = "Masked autoencoder of BiaPy's documentation (111 M trained weights) on 256 x 256 pixels, half of the boxes hidden by a grid."
    yield from measured("Training steps of the masked autoencoder, compared with BiaPy", about, cases, 1.05, before, options)


def _autoencoders(batch: int) -> dict[str, Step]:
    import torch
    from biapy.models.mae import MaskedAutoencoderViT

    from morula.methods.masked_autoencoder import MaskedAutoencoder
    from morula.methods.masked_autoencoder_options import Options
    from morula.nn.build import build_network

    image = torch.randn((batch, 1, 256, 256), generator=torch.Generator().manual_seed(0))
    sizes = {"embed_dim": 768, "depth": 12, "num_heads": 12, "decoder_embed_dim": 512, "decoder_depth": 8, "decoder_num_heads": 16}
    theirs = MaskedAutoencoderViT(img_size=256, patch_size=16, in_chans=1, ndim=2, mlp_ratio=4.0, masking_type="grid", **sizes)
    own = build_network({"kind": "mae"}, 2, 1, {"image": 1})
    counts = [sum(weight.numel() for weight in network.parameters() if weight.requires_grad) for network in (own, theirs)]
    assert counts[0] == counts[1], counts
    method = MaskedAutoencoder(Options(in_channels=1, token=(16, 16)), None, ndim=2, spacing=(1.0, 1.0))
    hidden = np.stack([method.draw((16, 16), np.random.default_rng(number)) for number in range(batch)])
    given = {"image": image, "hidden": torch.from_numpy(hidden), "weights": torch.ones(batch, 1, 256, 256)}
    return {"morula": own_step(own, method.loss, given), "BiaPy": their_step(theirs, lambda: theirs(image)["loss"])}


# --- U-Nets ------------------------------------------------------------------------------------------------------------------------------

_COMMON = {
    "activation": "elu",
    "feature_maps": [16, 32, 64, 128, 256],
    "drop_values": [0.0] * 5,
    "normalization": "in",
    "k_size": 3,
    "upsample_layer": "convtranspose",
    "yx_down": [2] * 4,
    "output_channels": [2],
    "output_channel_info": ["F+C"],
    "head_activations": ["ce_sigmoid"] * 2,
    "isotropy": [True] * 5,
    "larger_io": False,
    "conv_layers": [2] * 5,
    "return_one_tensor": False,
}


def unet_steps(before: Result | None, options: argparse.Namespace) -> Iterator[Result]:
    """U-Net and residual U-Net of BiaPy's templates for instance segmentation."""
    cases = {}
    for name, architecture in (("U-Net", "unet"), ("residual U-Net", "resunet")):
        for shape, batch, down in (((256, 256), 6, 2), ((20, 128, 128), 2, 1)):
            sized = f"{name}, batch of {batch}, {' x '.join(map(str, shape))}"
            cases[sized] = lambda given=(architecture, shape, batch, down): _unets(*given)
    about = (
        "Networks with 16, 32, 64, 128, 256 features, instance normalisation and ELU, as in BiaPy's templates for instance segmentation "
        "(in 3D with batches of 2 instead of 6), two output channels, binary cross-entropy."
    )
    yield from measured("Training steps of U-Nets, compared with BiaPy", about, cases, 0.9, before, options)


def _unets(architecture: str, shape: tuple[int, ...], batch: int, down: int) -> dict[str, Step]:
    import torch
    from biapy.models.resunet import ResUNet
    from biapy.models.unet import U_Net
    from torch.nn import functional

    from morula.dialects.biapy.networks import native_network
    from morula.losses.bce import bce_sums

    ndim = len(shape)
    keywords = {**_COMMON, "image_shape": (*shape, 1), "z_down": [down] * 4}
    theirs = (U_Net if architecture == "unet" else ResUNet)(**keywords)
    image = torch.randn((batch, 1, *shape), generator=torch.Generator().manual_seed(0))
    target = (torch.rand((batch, 2, *shape), generator=torch.Generator().manual_seed(1)) > 0.5).float()
    settings = {**keywords, "input_shape": (*shape, 1)}

    def own(precision: str) -> Step:
        network = native_network(architecture, theirs.state_dict(), settings, version="3.7.1", heads=["channels"])
        assert network.ndim == ndim
        return own_step(network, lambda outputs, given: {"bce": bce_sums(outputs["channels"], given["target"])}, given, precision)

    def their_loss() -> Any:
        found = theirs(image)
        logits = found["pred"] if isinstance(found, dict) else found
        return functional.binary_cross_entropy_with_logits(logits, target)

    given = {"image": image, "target": target}
    return {"morula": own("fp32"), "morula with bf16": own("bf16"), "BiaPy": their_step(theirs, their_loss)}


ROWS = {"mae_step": mae_step, "unet_steps": unet_steps}
