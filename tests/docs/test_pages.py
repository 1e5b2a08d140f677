"""Every YAML block of the documentation is a valid job or a part of one; every channel and decoder has a picture and a section."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from morula.decoders import DECODERS
from morula.jobs.load import validate
from morula.jobs.yaml_lines import Document, parse_documents
from morula.representations import REPRESENTATIONS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "dialects" not in path.parts)]
BLOCK = re.compile(r"^```yaml\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
JOB: dict[str, Any] = {
    "images": {"train": {"raw": "raw", "labels": "labels"}},
    "method": {"kind": "channels", "channels": ["F", "C", "Db"]},
}


def jobs() -> list[Any]:
    """Page, number and text of every YAML document."""
    found = []
    for page in PAGES:
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            documents = [document for document in re.split(r"^---$", block, flags=re.MULTILINE) if document.strip()]
            found += [pytest.param(text, id=f"{page.relative_to(ROOT)}:{len(found)}") for text in documents]
    return found


@pytest.mark.parametrize("text", jobs())
def test_yaml_is_valid(text: str) -> None:
    (document,) = parse_documents(text)
    part = document.data
    job = {name: part.get(name, JOB.get(name)) for name in {**JOB, **part}}
    job["images"] = {**JOB["images"], **job["images"]}
    assert validate(Document(job, {}, "page.yaml")).images.train is not None


@pytest.mark.parametrize("code", REPRESENTATIONS.names)
def test_channel_has_a_picture(code: str) -> None:
    page = (ROOT / "docs/explanation/channels.md").read_text(encoding="utf-8")
    assert f"\n## {code}: {REPRESENTATIONS.member(code).full_name}\n" in page
    assert f"(../images/channel-{code}.webp)" in page
    assert (ROOT / f"docs/images/channel-{code}.webp").stat().st_size in range(1_000, 100_000)


def test_channels_have_full_names_in_jobs() -> None:
    spellings = ({"foreground": {"erosion": 1}, "contour": {}}, {"F": {"erosion": 1}, "C": {}})
    jobs = [{**JOB, "method": {"kind": "channels", "channels": channels}} for channels in spellings]
    full, short = (validate(Document(job, {}, "job.yaml")) for job in jobs)
    assert full == short


@pytest.mark.parametrize("name", DECODERS.names)
def test_decoder_has_a_picture(name: str) -> None:
    page = (ROOT / "docs/explanation/decoders.md").read_text(encoding="utf-8")
    assert f"\n## {name}\n" in page
    assert f"(../images/decoder-{name}.webp)" in page
    assert (ROOT / f"docs/images/decoder-{name}.webp").stat().st_size in range(1_000, 100_000)


@pytest.mark.parametrize("name", ["channel-C", "decoder-connected_components"])
def test_pictures_are_up_to_date(name: str) -> None:
    specification = importlib.util.spec_from_file_location("pictures", ROOT / "docs/pictures.py")
    assert specification is not None
    assert specification.loader is not None
    pictures = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(pictures)
    stored = np.asarray(Image.open(ROOT / f"docs/images/{name}.webp").convert("RGBA"), float)
    drawn = np.asarray(pictures.PICTURES[name](), float)
    assert stored.shape == drawn.shape
    opaque = drawn[..., 3] == 255
    assert np.abs(stored - drawn)[opaque].mean() < 4  # WebP is lossy
