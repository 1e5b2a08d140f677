from __future__ import annotations

from pathlib import Path

from training_toys import Patches, loss, network

from morula.core.events import Epoch, FileWritten, Finished, Progress, Started
from morula.training.loop import fit
from morula.training.options import Training


def test_events(tmp_path: Path, options: Training) -> None:
    net = network()
    events = list(fit(net, loss, Patches(), options, folder=tmp_path))
    assert [e.total for e in events if isinstance(e, Started)] == [16]
    assert [e.done for e in events if isinstance(e, Progress)] == list(range(1, 17))
    epochs = [e for e in events if isinstance(e, Epoch)]
    assert [(e.epoch, e.step) for e in epochs] == [(1, 4), (2, 8), (3, 12), (4, 16)]
    assert set(epochs[0].figures) == {"loss", "loss_F", "loss_D", "rate", "validation_loss", "validation_loss_F", "validation_loss_D"}
    assert epochs[-1].figures["validation_loss"] < epochs[0].figures["validation_loss"]
    assert isinstance(events[-1], Finished)
    assert {e.path.name for e in events if isinstance(e, FileWritten)} == {"best", "last"}
