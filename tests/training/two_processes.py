"""Trains the toy network in two processes (Fabric starts this script again for the second): ``two_processes.py FOLDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from training_toys import Patches, loss, network

from morula.core.events import Epoch, Event, Progress
from morula.training.loop import ValidationHooks, fit
from morula.training.options import Training


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    options = Training.model_validate(
        {"epochs": 3, "device": "cpu", "devices": 2, "precision": "fp64", "optimiser": {"kind": "sgd", "lr": 0.5}}
    )
    seen: dict[str, object] = {}
    for accumulate in (1, 2):
        net = network(accumulate)
        settings = options.model_copy(update={"accumulate": accumulate})
        hooks = ValidationHooks(score=(lambda _: 1.0) if accumulate == 2 else None)
        told = list(fit(net, loss, Patches(steps_per_epoch=8), settings, folder=folder / f"straight{accumulate}", hooks=hooks))
        seen[f"losses{accumulate}"] = [[e.figures["loss"], e.figures["validation_loss"]] for e in told if isinstance(e, Epoch)]
        seen[f"weights{accumulate}"] = {name: value.flatten().tolist() for name, value in net.state_dict().items()}

    steps = [0]
    parted, again = network(1), network(5)

    def stop() -> bool:  # only the first process hears of steps, and so asks to stop
        return steps[0] >= 6

    def hear(event: Event) -> None:
        steps[0] += isinstance(event, Progress)

    for event in fit(parted, loss, Patches(steps_per_epoch=8), options, folder=folder / "parted", stop=stop):
        hear(event)
    seen["stopped"] = steps[0]
    rest = list(fit(again, loss, Patches(steps_per_epoch=8), options, folder=folder / "parted", resume=True))
    seen["resumed"] = {name: value.flatten().tolist() for name, value in again.state_dict().items()}
    if rest:  # the other process is told nothing
        (folder / "seen.json").write_text(json.dumps(seen))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
