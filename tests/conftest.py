"""What all tests share: hypothesis profiles, the real images where they lie at hand, one torch thread."""

import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parent

settings.register_profile("dev", max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


if method := os.environ.get("MORULA_TEST_START_METHOD"):  # see .ci/environments
    multiprocessing.set_start_method(method)


ARRAY_TESTS = (
    "core",
    "kernels",
    "io",
    "labels",
    "representations",
    "decoders",
    "measurement",
    "metrics",
    "testing",
    "data",
    "inference",
    "trust",
)
"""Folders of the tests that reach the lines of the array packages, which `make test` counts."""


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--cov", default=None):
        _compile_untraced()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each of two processes begins with one half of the tests: those that compile the same kernels are in one half, so that each kernel is
    compiled once."""
    items.sort(key=lambda item: _folder(item) not in (*ARRAY_TESTS, "methods"))


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Tests of other packages run without the tracer of coverage, which adds a third to their time: nothing reads what it counts there."""
    folder = _folder(item)
    tracer = sys.gettrace()
    if tracer is None or not folder or folder in ARRAY_TESTS:
        return (yield)
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


def _compile_untraced() -> None:
    """Numba compiles without the tracer of coverage, which would count none of the compiler's lines but add 40 % to its time."""
    from numba.core.dispatcher import Dispatcher

    compile_traced = Dispatcher.compile

    def compile_untraced(self: Any, signature: Any) -> Any:
        tracer = sys.gettrace()
        sys.settrace(None)
        try:
            return compile_traced(self, signature)
        finally:
            sys.settrace(tracer)

    Dispatcher.compile = compile_untraced


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of the real images: MORULA_DATA, or shared/data beside the project."""
    folder = Path(os.environ.get("MORULA_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "FILES.csv").is_file():
        pytest.skip(f"the real images are not in {folder}; set MORULA_DATA to the folder that holds FILES.csv")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _quick_disk() -> Iterator[None]:
    """Tests write many small files, which a disk need not store durably; `core/test_durable.py` looks at the calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def _one_torch_thread():
    """Small tensors are fastest on one thread, and runs are the same on every machine; torch is not imported for it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
