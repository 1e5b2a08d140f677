from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_toys import Net, Patches, loss, network

from morula.core.events import Epoch, Event, FileWritten, Finished, Logged, Preview, Progress, Started, Warned
from morula.losses.sums import Sums
from morula.testing.errors import raises
from morula.training.checkpoint import load_weights_of
from morula.training.loop import ValidationHooks, fit
from morula.training.options import Training

Weights = dict[str, Tensor]


def varied(options: Training, **changes: Any) -> Training:
    return Training.model_validate({**options.model_dump(), **changes})


def curve(events: list[Event], name: str = "loss") -> list[float]:
    return [e.figures[name] for e in events if isinstance(e, Epoch)]


def same(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def stop_after(step: int) -> tuple[Callable[[], bool], Callable[[Event], None]]:
    """A function that returns True once the step was reported, and one that reads the events."""
    seen = [0]

    def read(event: Event) -> None:
        if isinstance(event, Progress):
            seen[0] = event.done

    return lambda: seen[0] >= step, read


def interrupted(step: int, net: nn.Module, patches: Patches, options: Training, folder: Path, *, resume: bool = False) -> list[Event]:
    stop, read = stop_after(step)
    events = []
    for event in fit(net, loss, patches, options, folder=folder, stop=stop, resume=resume):
        read(event)
        events.append(event)
    return events


def test_events(tmp_path: Path, options: Training) -> None:
    net = network()
    events = list(fit(net, loss, Patches(), options, folder=tmp_path))
    assert [e.total for e in events if isinstance(e, Started)] == [16]
    assert [e.done for e in events if isinstance(e, Progress)] == list(range(1, 17))
    epochs = [e for e in events if isinstance(e, Epoch)]
    assert [(e.epoch, e.step) for e in epochs] == [(1, 4), (2, 8), (3, 12), (4, 16)]
    assert set(epochs[0].figures) == {"loss", "loss_F", "loss_D", "lr", "validation_loss", "validation_loss_F", "validation_loss_D"}
    assert epochs[-1].figures["validation_loss"] < epochs[0].figures["validation_loss"]
    assert isinstance(events[-1], Finished)
    assert {e.path.name for e in events if isinstance(e, FileWritten)} == {"best", "last"}
    assert not net.training


@pytest.mark.parametrize("ndim", [2, 3])
def test_figures_equal_those_of_the_whole_epoch(tmp_path: Path, options: Training, ndim: int) -> None:
    """With a rate too small to move the weights, an epoch's loss is the loss of all its patches in one batch."""
    patches = Patches(ndim=ndim)
    net = network(ndim=ndim)
    one = varied(options, epochs=1, optimiser={"kind": "sgd", "lr": 1e-30}, precision="fp64")
    events = list(fit(net, loss, patches, one, folder=tmp_path))
    whole = patches.collate([patches.sample(0, 0, i) for i in range(8)])
    held = patches.collate([patches.sample(1, i) for i in range(3)])
    for batch, prefix in ((whole, ""), (held, "validation_")):
        with torch.no_grad():
            expected = {name: float(s.total) for name, s in loss(net(batch["image"].double()), batch).items()}
        for name, value in expected.items():
            assert math.isclose(curve(events, f"{prefix}loss_{name}")[0], value, rel_tol=1e-9)
        assert math.isclose(curve(events, f"{prefix}loss")[0], sum(expected.values()), rel_tol=1e-9)


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("parts", [2, 3])
def test_accumulation_equals_one_large_batch(tmp_path: Path, options: Training, parts: int, clip: float | None) -> None:
    base = varied(options, precision="fp64", clip_norm=clip, optimiser={"kind": "sgd", "lr": 0.5})
    large, small = network(), network()
    steps = 2
    a = list(fit(large, loss, Patches(batch=2 * parts, steps_per_epoch=steps), base, folder=tmp_path / "a"))
    b = list(fit(small, loss, Patches(batch=2, steps_per_epoch=steps * parts), varied(base, accumulate=parts), folder=tmp_path / "b"))
    np.testing.assert_allclose(curve(a), curve(b), rtol=1e-12)
    for name, value in large.state_dict().items():
        torch.testing.assert_close(small.state_dict()[name], value, rtol=1e-10, atol=1e-12)


def test_accumulation_repeats_random_numbers_in_both_passes(tmp_path: Path, options: Training) -> None:
    """With dropout the loss that is told is the one whose gradient is taken: the last group of an epoch may be shorter."""
    net = network(norm=True, dropout=0.5)
    seen: list[tuple[float, ...]] = []

    def spy(outputs: dict[str, Tensor], batch: dict[str, Any]) -> Any:
        seen.append(tuple(outputs["F"].detach().flatten()[:5].tolist()))
        return loss(outputs, batch)

    one = varied(options, epochs=1, accumulate=2)
    events = list(fit(net, spy, Patches(steps_per_epoch=3, validated=0), one, folder=tmp_path))
    assert [e.done for e in events if isinstance(e, Progress)] == [1, 2]
    assert seen[:2] == seen[2:4]
    assert len(seen) == 5
    assert float(net.body[1].num_batches_tracked) == 3


def test_same_seed_same_weights(tmp_path: Path, options: Training) -> None:
    def trained(seed: int, folder: str) -> Weights:
        net = network(seed, dropout=0.3)
        for _ in fit(net, loss, Patches(), varied(options, seed=seed), folder=tmp_path / folder):
            torch.rand(3)  # a reader that draws numbers changes nothing
        return net.state_dict()

    first = trained(1, "a")
    torch.manual_seed(99)
    assert same(first, trained(1, "b"))
    assert not same(first, trained(2, "c"))


def test_random_state_of_the_caller_is_kept(tmp_path: Path, options: Training) -> None:
    net = network(dropout=0.3)
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    list(fit(net, loss, Patches(), options, folder=tmp_path))
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "one_cycle"},
        {"schedule": {"kind": "cosine", "warmup": 0.2}, "ema_decay": 0.9, "accumulate": 2},
        {"schedule": {"kind": "plateau", "patience": 0}, "optimiser": {"kind": "sgd", "momentum": 0.9}, "validate_every": "3 steps"},
        {"schedule": {"kind": "constant", "warmup": 5}, "optimiser": "adam", "validate_every": 2, "clip_norm": 0.1},
    ],
    ids=["one_cycle", "cosine", "plateau", "constant"],
)
@pytest.mark.parametrize("step", [8, 6], ids=["between", "within"])
def test_resume_is_exact(tmp_path: Path, options: Training, changes: dict[str, Any], step: int) -> None:
    settings = varied(options, **changes)
    step = step // settings.accumulate
    whole, parted = network(dropout=0.2, norm=True), network(dropout=0.2, norm=True)
    a = list(fit(whole, loss, Patches(), settings, folder=tmp_path / "a"))
    b = interrupted(step, parted, Patches(), settings, tmp_path / "b")
    assert not any(isinstance(e, Finished) for e in b)
    assert isinstance(b[-1], Logged)
    assert f"after step {step} of" in b[-1].message
    again = network(seed=7, dropout=0.2, norm=True)
    b += fit(again, loss, Patches(), settings, folder=tmp_path / "b", resume=True)
    told = [[replace(e, seconds=0) for e in events if isinstance(e, Epoch)] for events in (a, b)]
    assert told[0] == told[1]
    assert same(whole.state_dict(), again.state_dict())
    for name in ("best", "last"):
        assert same(*(load_weights_of(tmp_path / run / "checkpoints" / name) for run in "ab"))


def test_resume_after_a_kill(tmp_path: Path, options: Training) -> None:
    settings = varied(options, checkpoint_every="3 steps")
    whole, killed = network(), network()
    list(fit(whole, loss, Patches(), settings, folder=tmp_path / "a"))
    stream = fit(killed, loss, Patches(), settings, folder=tmp_path / "b")
    while not (isinstance(event := next(stream), Progress) and event.done == 11):
        pass
    stream.close()
    patches = Patches()
    events = list(fit(killed, loss, patches, settings, folder=tmp_path / "b", resume=True))
    assert patches.asked[0] == (2, 1)
    assert next(e.done for e in events if isinstance(e, Progress)) == 10
    assert same(whole.state_dict(), killed.state_dict())


def test_resume_of_a_finished_run(tmp_path: Path, options: Training) -> None:
    net, again = network(), network(seed=3)
    list(fit(net, loss, Patches(), options, folder=tmp_path))
    events = list(fit(again, loss, Patches(), options, folder=tmp_path, resume=True))
    assert not any(isinstance(e, Progress | Epoch) for e in events)
    assert isinstance(events[-1], Finished)
    assert same(net.state_dict(), again.state_dict())


def test_more_epochs_on_resume(tmp_path: Path, options: Training) -> None:
    """A schedule that does not depend on the number of epochs can be extended: N epochs and N more equal 2N."""
    settings = varied(options, schedule="constant")
    whole, parted = network(), network()
    list(fit(whole, loss, Patches(), settings, folder=tmp_path / "a"))
    list(fit(parted, loss, Patches(), varied(settings, epochs=2), folder=tmp_path / "b"))
    list(fit(parted, loss, Patches(), settings, folder=tmp_path / "b", resume=True))
    assert same(whole.state_dict(), parted.state_dict())


def test_a_finished_run_goes_on_with_a_constant_rate(tmp_path: Path, options: Training) -> None:
    longer = varied(options, schedule={"kind": "constant", "warmup": 0}, epochs=options.epochs + 2)
    list(fit(network(), loss, Patches(), options, folder=tmp_path))
    rates = []
    for _ in range(2):  # the second time there is nothing left to do
        events = list(fit(network(), loss, Patches(), longer, folder=tmp_path, resume=True))
        rates.append([event.figures["lr"] for event in events if isinstance(event, Epoch)])
    assert rates == [[longer.optimiser.lr] * 2, []]


@pytest.mark.parametrize(
    "changes", [{"optimiser": {"kind": "adamw", "lr": 0.5}}, {"epochs": 9}, {"seed": 3}], ids=["optimiser", "epochs", "seed"]
)
def test_resume_rejects_other_settings(tmp_path: Path, options: Training, changes: dict[str, Any]) -> None:
    interrupted(3, network(), Patches(), options, tmp_path)
    with raises("resume.other_settings", key=f"training.{next(iter(changes))}", file=str(tmp_path)):
        list(fit(network(), loss, Patches(), varied(options, **changes), folder=tmp_path, resume=True))


def test_resume_rejects_other_data_or_network(tmp_path: Path, options: Training) -> None:
    interrupted(3, network(), Patches(), options, tmp_path)
    with raises("resume.other_settings", key="data"):
        list(fit(network(), loss, Patches(steps_per_epoch=5), options, folder=tmp_path, resume=True))
    with raises("resume.other_network", file=str(tmp_path / "checkpoints" / "last")):
        list(fit(network(norm=True), loss, Patches(), options, folder=tmp_path, resume=True))


def test_resume_accepts_free_settings(tmp_path: Path, options: Training) -> None:
    interrupted(3, network(), Patches(), options, tmp_path)
    changed = varied(options, patience=9, workers=1, checkpoint_every="5 steps")
    assert isinstance(list(fit(network(), loss, Patches(), changed, folder=tmp_path, resume=True))[-1], Finished)


def test_resume_without_a_checkpoint_starts(tmp_path: Path, options: Training) -> None:
    events = list(fit(network(), loss, Patches(), options, folder=tmp_path, resume=True))
    assert next(e.code for e in events if isinstance(e, Warned)) == "checkpoint.none_yet"
    assert isinstance(events[-1], Finished)


def test_earlier_run_is_not_overwritten(tmp_path: Path, options: Training) -> None:
    interrupted(3, network(), Patches(), options, tmp_path)
    with raises("checkpoint.exists", file=str(tmp_path / "checkpoints")):
        list(fit(network(), loss, Patches(), options, folder=tmp_path))


@pytest.mark.parametrize(("step", "number"), [(5, signal.SIGINT), (8, signal.SIGINT), (5, signal.SIGTERM)])
def test_signals_save_then_raise_and_resume_exactly(tmp_path: Path, options: Training, step: int, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM that arrive during a step (5), and during a validation (8)."""
    whole, parted = network(), network()
    list(fit(whole, loss, Patches(), options, folder=tmp_path / "a"))
    before, calls = signal.getsignal(number), [0]

    def pressing(outputs: dict[str, Tensor], batch: dict[str, Any]) -> Any:
        calls[0] += batch["name"][0].startswith("train") or step == 8
        if calls[0] == (5 if step == 5 else 13):  # 8 steps and 3 validation batches, then 2 of 3
            signal.raise_signal(number)
        return loss(outputs, batch)

    events: list[Event] = []
    with pytest.raises(KeyboardInterrupt):
        events.extend(fit(parted, pressing, Patches(), options, folder=tmp_path / "b"))
    assert signal.getsignal(number) is before
    assert [e.done for e in events if isinstance(e, Progress)][-1] == step
    assert isinstance(events[-1], Logged)
    again = network(seed=4)
    list(fit(again, loss, Patches(), options, folder=tmp_path / "b", resume=True))
    assert same(whole.state_dict(), again.state_dict())


def test_runs_in_a_thread(tmp_path: Path, options: Training) -> None:
    events: list[Event] = []
    thread = threading.Thread(target=lambda: events.extend(fit(network(), loss, Patches(), options, folder=tmp_path)))
    thread.start()
    thread.join()
    assert isinstance(events[-1], Finished)


def test_loss_not_finite(tmp_path: Path, options: Training) -> None:
    with raises("loss.not_finite", key="F") as caught:
        list(fit(network(), loss, Patches(spoil=(2, 1)), options, folder=tmp_path))
    for name in ("step 10", "train2.tif, train3.tif"):
        assert name in caught.error.rule
    again = network()
    assert isinstance(list(fit(again, loss, Patches(), options, folder=tmp_path, resume=True))[-1], Finished)
    assert all(bool(value.isfinite().all()) for value in again.state_dict().values())


def test_validation_loss_not_finite(tmp_path: Path, options: Training) -> None:
    class Holed(Patches):
        def validation(self, rank: int, world: int) -> Iterator[dict[str, Any]]:
            for batch in super().validation(rank, world):
                if batch["name"] == ["val1.tif"]:
                    batch["image"][:] = torch.inf
                yield batch

    with raises("loss.not_finite") as caught:
        list(fit(network(), loss, Holed(), options, folder=tmp_path))
    for name in ("validation after step 4", "val1.tif"):
        assert name in caught.error.rule


def test_weights_not_finite_are_not_saved(tmp_path: Path, options: Training) -> None:
    """A finite loss may have a gradient that is not finite; the earlier checkpoint stays."""
    calls = [0]

    def cliff(outputs: dict[str, Tensor], batch: dict[str, Any]) -> Any:
        calls[0] += 1
        if calls[0] == 6:
            outputs["F"].register_hook(lambda gradient: gradient * torch.nan)
        return loss(outputs, batch)

    settings = varied(options, checkpoint_every="1 steps", validate_every=4)
    with raises("training.weights_not_finite"):
        list(fit(network(), cliff, Patches(), settings, folder=tmp_path))
    assert all(bool(value.isfinite().all()) for value in load_weights_of(tmp_path / "checkpoints" / "last").values())


def test_best_is_the_lowest_validation_loss(tmp_path: Path, options: Training) -> None:
    net = network()
    wild = varied(options, epochs=6, optimiser={"kind": "sgd", "lr": 3.0, "momentum": 0.95}, schedule="constant", precision="fp32")
    events = list(fit(net, loss, Patches(), wild, folder=tmp_path))
    losses = curve(events, "validation_loss")
    assert [e.best for e in events if isinstance(e, Epoch)] == [v < min(losses[:i], default=math.inf) for i, v in enumerate(losses)]
    batch = Patches().collate([Patches().sample(1, i) for i in range(3)])
    with torch.no_grad():
        value = sum(float(s.total) for s in loss(net(batch["image"]), batch).values())
    assert math.isclose(value, min(losses), rel_tol=1e-5)


def test_best_is_the_highest_score(tmp_path: Path, options: Training) -> None:
    scores = iter([0.2, 0.7, 0.7, math.nan])
    seen: list[Weights] = []

    def score(net: nn.Module) -> float:
        assert not net.training
        seen.append({name: value.clone() for name, value in net.state_dict().items()})
        return next(scores)

    net = network()
    events = list(fit(net, loss, Patches(), options, folder=tmp_path, hooks=ValidationHooks(score=score)))
    assert curve(events, "score")[:3] == [0.2, 0.7, 0.7]
    assert [e.best for e in events if isinstance(e, Epoch)] == [True, True, False, False]
    assert same(net.state_dict(), seen[1])


@pytest.mark.parametrize(("monitor", "best"), [("iou", [True, False, True, False]), ("loss", [True, False, False, False])])
def test_monitor_chooses_the_best_weights_and_is_followed(
    tmp_path: Path, options: Training, monitor: Literal["iou", "loss"], best: list[bool]
) -> None:
    figures = iter([0.5, 0.4, 0.6, 0.3])
    seen = [0.0]

    def scores(batch: dict[str, Any], outputs: dict[str, Tensor]) -> dict[str, float]:
        if batch["name"][0] == "val0.tif":
            seen[0] = next(figures)
        return {"iou": seen[0]}

    def rising(outputs: dict[str, Tensor], batch: dict[str, Any]) -> Any:
        steps[0] += torch.is_grad_enabled()
        return {"F": Sums(outputs["F"].sum() * 0 + steps[0], lambda parts: parts)}

    steps = [0]
    settings = varied(options, schedule={"kind": "plateau", "patience": 0, "factor": 0.5}, monitor=monitor)
    assert settings.monitor is not None
    hooks = ValidationHooks(score=lambda _: 0.0, scores=scores, monitor=settings.monitor.monitor)
    events = [e for e in fit(network(), rising, Patches(), settings, folder=tmp_path, hooks=hooks) if isinstance(e, Epoch)]
    assert [event.best for event in events] == best
    rates = [event.figures["lr"] for event in events]
    assert [later < earlier for earlier, later in pairwise(rates)] == [not improved for improved in best[:-1]]


def test_patience(tmp_path: Path, options: Training) -> None:
    scores = iter([0.5, 0.6, 0.1, 0.2, 0.9])
    settings = varied(options, epochs=5, patience=2)
    events = list(fit(network(), loss, Patches(), settings, folder=tmp_path, hooks=ValidationHooks(score=lambda _: next(scores))))
    assert len(curve(events)) == 4
    assert "after epoch 4" in next(e.message for e in events if isinstance(e, Logged))
    assert isinstance(events[-1], Finished)
    assert events[-1].figures["epochs"] == 4


def test_best_is_the_lowest_training_loss_without_validation(tmp_path: Path, options: Training) -> None:
    pictures: list[list[str]] = []

    def preview(batch: dict[str, Any], outputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
        pictures.append(batch["name"])
        return {"input": batch["image"][0, 0].numpy()}

    settings = varied(options, schedule={"kind": "plateau", "patience": 0})
    events = list(fit(network(), loss, Patches(validated=0), settings, folder=tmp_path, hooks=ValidationHooks(preview=preview)))
    assert "validation_loss" not in next(e for e in events if isinstance(e, Epoch)).figures
    losses = curve(events)
    assert [e.best for e in events if isinstance(e, Epoch)] == [v < min(losses[:i], default=math.inf) for i, v in enumerate(losses)]
    assert pictures == [["train0.tif", "train1.tif"]] * 4
    assert len([e for e in events if isinstance(e, Preview)]) == 4


@pytest.mark.parametrize(("validated", "shown"), [(3, "val"), (0, "train")])
def test_previews_with_and_without_validation(tmp_path: Path, options: Training, validated: int, shown: str) -> None:
    pictures: list[str] = []

    def preview(batch: dict[str, Any], outputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
        pictures.append(batch["name"][0])
        return {"input": batch["image"][0, 0].numpy()}

    settings = varied(options, epochs=5, validate_every="2 epochs")
    nets = [network(), network()]
    events = list(fit(nets[0], loss, Patches(validated=validated), settings, folder=tmp_path / "a", hooks=ValidationHooks(preview=preview)))
    assert [event.epoch for event in events if isinstance(event, Preview)] == [1, 2, 3, 4, 5]
    assert pictures == [f"{shown}0.tif"] * 5
    list(fit(nets[1], loss, Patches(validated=validated), settings, folder=tmp_path / "b"))
    assert same(nets[0].state_dict(), nets[1].state_dict())  # to look changes nothing


def test_validation_by_steps(tmp_path: Path, options: Training) -> None:
    settings = varied(options, epochs=2, validate_every="3 steps", checkpoint_every="5 steps")
    events = list(fit(network(), loss, Patches(), settings, folder=tmp_path))
    epochs = [e for e in events if isinstance(e, Epoch)]
    assert [(e.epoch, e.step, "validation_loss" in e.figures) for e in epochs] == [
        (1, 3, True), (1, 4, False), (2, 6, True), (2, 8, True),
    ]  # fmt: skip
    saved = [i for i, e in enumerate(events) if isinstance(e, FileWritten) and e.path.name == "last"]
    assert [next(e.done for e in reversed(events[:i]) if isinstance(e, Progress)) for i in saved] == [5, 8]


def test_moving_average_is_kept(tmp_path: Path, options: Training) -> None:
    net = network(norm=True)
    history: list[Tensor] = []
    for event in fit(net, loss, Patches(), varied(options, epochs=1, ema_decay=0.5), folder=tmp_path):
        if isinstance(event, Progress):
            history.append(net.heads["F"].bias.detach().clone())
    start = network(norm=True).heads["F"].bias.detach()
    expected = start
    for step, value in enumerate(history, 1):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(net.heads["F"].bias.detach(), expected)
    assert same(load_weights_of(tmp_path / "checkpoints" / "best"), net.state_dict())
    assert torch.equal(load_weights_of(tmp_path / "checkpoints" / "last")["heads.F.bias"], history[-1])


def test_bfloat16_follows_float32(tmp_path: Path, options: Training) -> None:
    a = list(fit(network(), loss, Patches(), varied(options, precision="fp32"), folder=tmp_path / "a"))
    b = list(fit(network(), loss, Patches(), varied(options, precision="bf16"), folder=tmp_path / "b"))
    np.testing.assert_allclose(curve(a), curve(b), rtol=0.05)
    assert curve(a) != curve(b)


def test_losses_are_in_float32(tmp_path: Path, options: Training) -> None:
    seen = set()

    def watched(outputs: dict[str, Tensor], batch: dict[str, Any]) -> Any:
        seen.add((outputs["F"].dtype, torch.is_autocast_enabled("cpu")))
        return loss(outputs, batch)

    list(fit(network(), watched, Patches(), varied(options, precision="bf16", epochs=1), folder=tmp_path))
    assert seen == {(torch.float32, False)}


def test_frozen_weights_stay(tmp_path: Path, options: Training) -> None:
    net = network()
    for weight in net.body.parameters():
        weight.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    list(fit(net, loss, Patches(), options, folder=tmp_path))
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("heads")}


def test_nothing_to_train(tmp_path: Path, options: Training) -> None:
    net: Net = network()
    net.requires_grad_(False)
    with raises("training.all_frozen", key="training.freeze"):
        list(fit(net, loss, Patches(), options, folder=tmp_path))
    with raises("training.no_batch"):
        list(fit(network(), loss, Patches(steps_per_epoch=0), options, folder=tmp_path))


def test_loader_ends_early(tmp_path: Path, options: Training) -> None:
    class Short(Patches):
        def train(self, epoch: int, start: int, rank: int, world: int) -> Iterator[dict[str, Any]]:
            yield from list(super().train(epoch, start, rank, world))[:2]

    with raises("loader.too_short", value=2):
        list(fit(network(), loss, Short(), options, folder=tmp_path))
