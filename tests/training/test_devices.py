from __future__ import annotations

import pytest
import torch

from morula.testing.errors import raises
from morula.training.devices import emulated, pick_device, pick_precision


@pytest.mark.parametrize(("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_auto_takes_the_fastest(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device("auto") == expected
    assert pick_device("cpu") == "cpu"


def test_absent_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with raises("device.absent", key="training.device", value="cuda"):
        pick_device("cuda")


@pytest.mark.parametrize("bf16", [True, False])
def test_auto_precision(monkeypatch: pytest.MonkeyPatch, bf16: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    assert pick_precision("auto", "cuda") == ("bf16" if bf16 else "fp16")
    assert pick_precision("fp16", "cuda") == "fp16"


@pytest.mark.parametrize(("capabilities", "expected"), [({"amx_bf16": True}, "bf16"), ({"amx_bf16": False}, "fp32"), ({}, "fp32")])
def test_auto_precision_without_a_gpu(monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert pick_precision("auto", "cpu") == expected
    assert pick_precision("auto", "mps") == "fp32"


@pytest.mark.parametrize(("capabilities", "expected"), [({"amx_bf16": True}, False), ({"avx512_bf16": True}, False), ({}, True)])
def test_emulated_precision(monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert emulated("bf16", "cpu") is expected
    assert not emulated("bf16", "cuda")
    assert not emulated("auto", "cpu")


@pytest.mark.parametrize(("precision", "device"), [("fp16", "cpu"), ("fp16", "mps"), ("fp64", "mps")])
def test_impossible_precision(precision: str, device: str) -> None:
    with raises("precision.unsupported", key="training.precision", value=precision):
        pick_precision(precision, device)
