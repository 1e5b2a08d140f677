"""Tests that the documents name are in the suite."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["SECURITY.md", "docs/benchmarks/trust.md"])
def test_named_tests_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    known = {name for source in sources for name in re.findall(r"^def (test_\w+)", source, flags=re.MULTILINE)}
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 10
    assert named <= known
    assert all((ROOT / place).exists() for place in re.findall(r"`(tests/[\w/.]+)`", text))
