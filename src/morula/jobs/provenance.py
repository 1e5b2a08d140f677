"""What a result depends on besides its job: inputs, code, packages, machine, threads, command. Recorded in ``provenance.json``."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path

from morula.core.cores import usable_cores
from morula.core.location import is_remote, split_location

_PACKAGES = ("morula", "torch", "numpy", "scipy", "scikit-image", "numba", "lightning-fabric", "zarr", "tifffile")


def circumstances(device: str | None = None) -> dict[str, object]:
    """Code, packages, machine, device, threads, command and time of what this process computes.

    Args:
        device: the device that was used, ``cpu``, ``cuda`` or ``mps``; left out where nothing is computed on one.
    """
    found: dict[str, object] = {"code": code(), "environment": environment(), "threads": threads(), "command": command()}
    if device is not None:
        found["device"] = device_name(device)
    return {**found, "written": datetime.now(UTC).isoformat(timespec="seconds")}


def environment() -> dict[str, str]:
    """Versions and machine."""
    found = {"python": sys.version.split()[0], "system": platform.platform(), "processor": platform.machine()}
    if name := _processor_name():
        found["processor"] += f", {name}"
    if torch := sys.modules.get("torch"):  # its kernels are chosen by what the processor supports
        found["instructions"] = torch.backends.cpu.get_cpu_capability()
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not on Linux
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def threads() -> dict[str, int]:
    """Threads of PyTorch, if it is loaded, and of Numba: sums in another order round differently."""
    torch, numba = sys.modules.get("torch"), sys.modules.get("numba")
    found = {"torch": int(torch.get_num_threads())} if torch else {}
    # not numba.get_num_threads(), which starts its threads and thereby changes those of PyTorch; not loaded yet, it will take as many
    stated = os.environ.get("NUMBA_NUM_THREADS", "")
    later = int(stated) if stated.isdecimal() else usable_cores()
    return {**found, "numba": int(numba.config.NUMBA_NUM_THREADS) if numba else later}


def device_name(device: str) -> str:
    """Kind and name of a device, such as ``cuda (NVIDIA A100)``."""
    torch = sys.modules.get("torch")
    return f"{device} ({torch.cuda.get_device_name(device)})" if torch and device.startswith("cuda") else device


def command() -> list[str]:
    """The words of the command that runs, the program without its folder."""
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    if program == "__main__.py":  # python -m morula
        program = Path(sys.argv[0]).parent.name
    return [program, *sys.argv[1:]]


@functools.cache
def code() -> dict[str, str | None]:
    """Version, commit and checksum of the code of Morula; the checksum tells of changes that were not committed."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return {"version": version("morula"), "commit": _commit(root), "sha256": digest.hexdigest()}


def _commit(package: Path) -> str | None:
    """The commit that is checked out or was installed; `None` where neither is known. Git itself need not be installed."""
    clone = package.parents[1] / ".git"
    if clone.exists():
        return _head(clone)
    try:
        record = Distribution.read_text(distribution("morula"), "direct_url.json")
        found = json.loads(record or "{}").get("vcs_info", {}).get("commit_id")
    except (PackageNotFoundError, ValueError, AttributeError):
        return None
    return str(found) if found else None


def _head(git: Path) -> str | None:
    """The commit of HEAD of a clone or of a work tree."""
    try:
        if git.is_file():  # of a work tree: "gitdir: FOLDER"
            git = git.parent / git.read_text(encoding="utf-8").partition(":")[2].strip()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref:"):
            return head
        name = head.partition(":")[2].strip()
        common = git / (git / "commondir").read_text(encoding="utf-8").strip() if (git / "commondir").is_file() else git
        if (common / name).is_file():
            return (common / name).read_text(encoding="utf-8").strip()
        packed = (common / "packed-refs").read_text(encoding="utf-8").splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)
    except (OSError, UnicodeDecodeError):
        return None


def checksums(inputs: Iterable[str]) -> dict[str, str]:
    """Checksums of files by name. Of an HDF5 file all of it counts, of a Zarr container the image that is named inside it.

    Images on servers have none: they would have to be read as a whole.
    """
    return {name: "" if is_remote(name) else checksum(place_of(name)) for name in dict.fromkeys(inputs)}


def place_of(name: str) -> Path:
    """The file or folder of an image that may be inside a container.

    Examples:
        >>> place_of("a/x.h5:/raw").as_posix(), place_of("a/x.zarr:/0").as_posix(), place_of("a/x.tif").as_posix()
        ('a/x.h5', 'a/x.zarr/0', 'a/x.tif')
    """
    file, inner = split_location(Path(name).expanduser())
    return file / inner if inner and file.suffix.lower() in (".zarr", ".n5") else file


def checksum(path: str | Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder.

    Examples:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     checksum(file.name)[:12]
        'e3b0c44298fc'
    """
    path = Path(path)
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for inner in sorted(inner for inner in path.rglob("*") if inner.is_file()):
        digest.update(inner.relative_to(path).as_posix().encode() + bytes.fromhex(checksum(inner)))
    return digest.hexdigest()
