"""`morula doctor`: hardware, packages and likely problems of this computer."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from morula.cli.show import echo
from morula.core.compiled_cache import VARIABLE
from morula.core.cores import usable_cores

EXTRAS = {"napari": "napari", "openvino": "openvino", "tensorboard": "track", "tensorstore": "formats"}


class Finding(NamedTuple):
    """One line: what was checked, the result, and the remedy if it is likely to cause a problem."""

    subject: str
    result: str
    remedy: str = ""


def findings() -> Iterator[Finding]:
    """All checks."""
    yield Finding("python", f"{sys.version.split()[0]} on {platform.platform()}")
    yield from _processor()
    yield from _torch()
    yield from _limits()
    if cache := os.environ.get(VARIABLE):
        yield Finding("compiled code", f"stored in {cache}")
    yield from _packages()


def _processor() -> Iterator[Finding]:
    yield Finding("processor cores", str(usable_cores()))
    memory = psutil.virtual_memory()
    remedy = "close other programs, or limit the memory with `morula run JOB --memory 2GB`" if memory.available < 4e9 else ""
    yield Finding("memory", f"{memory.available / 1e9:.1f} GB free of {memory.total / 1e9:.1f} GB", remedy)
    for name, place in (("disk here", Path.cwd()), ("temporary disk", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(place).free
        yield Finding(name, f"{free / 1e9:.1f} GB free", "free disk space; predictions of large volumes need it" if free < 5e9 else "")


def _torch() -> Iterator[Finding]:
    yield Finding("torch", torch.__version__)
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            yield Finding("GPU", f"{torch.cuda.get_device_name(index)}, {free / 1e9:.1f} GB free of {total / 1e9:.1f} GB")
    elif torch.backends.mps.is_available():
        yield Finding("GPU", "Apple silicon (mps)")
    else:
        yield Finding("GPU", "none used", _why_no_gpu(torch.version.cuda))


def _why_no_gpu(built_for: str | None) -> str:
    if shutil.which("nvidia-smi") is None:  # no NVIDIA driver, so there is nothing to correct
        return ""
    if built_for is None:
        return "an NVIDIA driver is installed but this torch is built without CUDA; install a CUDA build of torch"
    return f"the NVIDIA driver does not support CUDA {built_for}, which torch is built for; update one of them"


def _limits() -> Iterator[Finding]:
    # worker processes pass batches through shared memory, which containers limit to 64 MB by default
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        yield Finding(
            "shared memory",
            f"{free / 1e9:.1f} GB free",
            "worker processes may be killed; set training.workers: 0, or use `docker run --shm-size 2g`" if free < 1e9 else "",
        )
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield Finding("open files", str(soft), "increase it with `ulimit -n 4096` before reading large Zarr arrays" if soft < 1024 else "")


def _packages() -> Iterator[Finding]:
    for package, extra in EXTRAS.items():
        # found but not imported: importing napari takes seconds
        there = find_spec(package) is not None
        yield Finding(package, "installed" if there else f"not installed (pip install 'morula[{extra}]')")


def print_findings() -> None:
    """Print the findings; likely problems are marked."""
    results = list(findings())
    width = max(len(finding.subject) for finding in results)
    for finding in results:
        remedy = f"  -> {finding.remedy}" if finding.remedy else ""
        echo(f"{'!' if finding.remedy else ' '} {finding.subject:<{width}}  {finding.result}{remedy}")
    problems = sum(bool(finding.remedy) for finding in results)
    echo(f"{problems} likely problem{'s' if problems > 1 else ''}, marked with !" if problems else "no problems found")
