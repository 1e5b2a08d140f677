from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from morula.testing.errors import raises
from morula.training.checkpoint import STATE, WEIGHTS, find_checkpoint, load_state_of, load_weights_of, save_checkpoint


def weights(value: float) -> dict[str, torch.Tensor]:
    return {"a": torch.full((2, 3, 4, 4), value).to(memory_format=torch.channels_last), "n": torch.tensor(int(value))}


def test_round_trip(tmp_path: Path) -> None:
    state = {"step": 3, "best": None, "nested": [{"t": torch.arange(3)}]}
    save_checkpoint(tmp_path / "last", weights(1), state)
    found = load_weights_of(tmp_path / "last")
    assert all(torch.equal(found[name], value) for name, value in weights(1).items())
    assert torch.equal(load_state_of(tmp_path / "last")["nested"][0]["t"], torch.arange(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last"]


def test_a_state_that_was_loaded_is_stored_in_the_same_bytes(tmp_path: Path) -> None:
    betas, name = (0.9, 0.99), "".join(["st", "ep"])
    state = {"step": 3, "groups": [{"betas": betas, name: torch.ones(2)}, {"betas": betas, "step": torch.zeros(2)}]}
    for folder in ("a", "b"):
        save_checkpoint(tmp_path / folder, weights(1), state)
        state = load_state_of(tmp_path / folder)
    assert (tmp_path / "a" / "state.pt").read_bytes() == (tmp_path / "b" / "state.pt").read_bytes()


def test_shared_weights_are_stored(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    save_checkpoint(tmp_path / "best", {"a": shared, "b": shared[1:]})
    assert torch.equal(load_weights_of(tmp_path / "best")["b"], shared[1:])


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("moment", range(1, 12))
def test_kill_at_any_moment_leaves_a_complete_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    save_checkpoint(tmp_path / "last", weights(1), {"step": 1})
    calls = [0]

    def killing(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            if calls[0] == moment:
                raise Killed
            return function(*args, **kwargs)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killing(Path.rename))
        patch.setattr(os, "replace", killing(os.replace))
        patch.setattr(Path, "write_bytes", killing(Path.write_bytes))
        patch.setattr(Path, "mkdir", killing(Path.mkdir))
        patch.setattr(shutil, "rmtree", killing(shutil.rmtree))
        try:
            save_checkpoint(tmp_path / "last", weights(2), {"step": 2})
        except Killed:
            assert moment <= 8
        else:
            assert moment > 8  # a checkpoint takes eight operations
    place = find_checkpoint(tmp_path / "last")
    assert place is not None
    assert load_state_of(place)["step"] == int(load_weights_of(place)["n"])
    save_checkpoint(tmp_path / "last", weights(3), {"step": 3})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last"]
    assert load_state_of(tmp_path / "last")["step"] == 3


def test_full_disk_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path / "last", weights(1), {"step": 1})

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with raises("checkpoint.not_written", file=str(tmp_path / "last")):
            save_checkpoint(tmp_path / "last", weights(2), {"step": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last"]
    assert load_state_of(tmp_path / "last")["step"] == 1


def test_damaged_files(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last", weights(1), {"step": 1})
    for name, load in ((WEIGHTS, load_weights_of), (STATE, load_state_of)):
        path = tmp_path / "last" / name
        for content in (path.read_bytes()[:50], b"", b"hello"):
            path.write_bytes(content)
            with raises("checkpoint.unreadable", file=str(path)):
                load(tmp_path / "last")


def test_pickles_with_code_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "last").mkdir()
    torch.save({"step": Path("x")}, tmp_path / "last" / STATE)
    with raises("checkpoint.unreadable"):
        load_state_of(tmp_path / "last")


def test_absent(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path / "last") is None
