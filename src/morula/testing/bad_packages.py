"""Packages of the BioImage Model Zoo that are damaged or hostile. The same seed gives the same files."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import yaml

from morula.jobs.yaml_lines import dump
from morula.models.model import Model
from morula.models.zoo.package import OWN, About, write_package
from morula.testing.mutations import flipped_bits, mutated
from morula.testing.simulate import simulate

DESCRIPTION = "rdf.yaml"


def bad_packages(folder: Path, choice: random.Random, model: Model) -> Iterator[tuple[str, Path, bool]]:
    """Name, file, and whether it can only end in an error; nothing where ONNX, which packages are written with, is not installed.

    Args:
        folder: where the files are written, each into a folder of its own.
        choice: decides what is changed.
        model: the 2D model that is packed.
    """
    if find_spec("onnx") is None:
        return
    good = folder / "good_package" / "a.zip"
    good.parent.mkdir(parents=True)
    image = simulate("nuclei", shape=(64, 64), n_objects=4, rng=np.random.default_rng(0)).image
    write_package(good, model, image[None], About("a"))
    whole = good.read_bytes()
    for number, (name, content, must_fail) in enumerate(_damaged(whole, choice, flips=15)):
        yield f"package {name}", _placed(folder, f"package_damaged_{number}", content), must_fail
    with zipfile.ZipFile(good) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if name not in OWN}
    described = yaml.safe_load(files[DESCRIPTION])
    described["weights"].pop("onnx")
    for number, document in enumerate(mutated(described, seed=choice.randrange(2**31), count=40)):
        content = _packed({**files, DESCRIPTION: dump(document).encode("utf-8", "surrogatepass")})
        yield f"package described {number}", _placed(folder, f"package_described_{number}", content), False
    files[DESCRIPTION] = dump(described).encode()
    for number, (name, content, must_fail) in enumerate(_damaged(files["weights.pt"], choice, flips=10)):
        yield f"package weights {name}", _placed(folder, f"package_weights_{number}", _packed({**files, "weights.pt": content})), must_fail
    for number, (name, changed) in enumerate(_hostile(files).items()):
        yield f"package {name}", _placed(folder, f"package_hostile_{number}", changed), True


def _damaged(content: bytes, choice: random.Random, *, flips: int) -> Iterator[tuple[str, bytes, bool]]:
    """A file cut short, and with flipped bits."""
    for share in (0, 0.1, 0.5, 0.9):
        yield f"cut to {share:.0%}", content[: int(len(content) * share)], True
    for number in range(flips):
        yield f"flipped {number}", flipped_bits(content, choice, count=1 + number % 4), False


def _hostile(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Bombs, and members whose names lead elsewhere."""
    text = files[DESCRIPTION]
    nested = _packed({"archive/data.pkl": bytes(2**28), "archive/version": b"3\n"})
    packed = {
        "bomb in the weights": {**files, "weights.pt": bytes(2**28)},
        "bomb in the description": {**files, DESCRIPTION: bytes(2**24)},
        "bomb inside the weights": {**files, "weights.pt": nested},
        "of 20,000 files": {**files, **{f"f{number}": b"" for number in range(20_000)}},
        "whose weights lie above it": {"../weights.pt": files["weights.pt"], DESCRIPTION: text.replace(b"weights.pt", b"../weights.pt")},
        "whose weights lie at the root": {"/weights.pt": files["weights.pt"], DESCRIPTION: text.replace(b"weights.pt", b"/weights.pt")},
        "without weights": {DESCRIPTION: text},
        "of aliases": {**files, DESCRIPTION: b"type: model\na: &a [1]\nb: &b [*a, *a]\n" + b"c: [" + b"*b, " * 200_000 + b"*b]\n"},
    }
    return {name: _packed(data) for name, data in packed.items()}


def _packed(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _placed(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name / "a.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path
