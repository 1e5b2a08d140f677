"""Descriptions of options: read from the source when they are asked for."""

from __future__ import annotations

import subprocess
import sys

from pydantic import Field

from morula.core.attribute_docs import attribute_docs
from morula.core.options import Options, description_of


class Colour(Options):
    hue: int = 0
    """Angle in
    degrees."""
    depth: int = Field(8, alias="bits")
    """Bits."""
    shade: int = Field(0, description="Stated.")
    """Not used."""


class Paint(Colour):
    hue: int = 3
    gloss: int = 0
    """Share."""


def test_the_last_definition_of_a_field_describes_it():
    assert attribute_docs(Colour) == {"hue": "Angle in\ndegrees.", "depth": "Bits.", "shade": "Not used."}
    described = {name: description_of(Paint, name) for name in Paint.model_fields}
    assert described == {"hue": None, "depth": "Bits.", "shade": "Stated.", "gloss": "Share."}


def test_classes_in_functions_are_found():
    class Inner(Options):
        size: int = 1
        """Edge."""

    assert description_of(Inner, "size") == "Edge."


def test_the_schema_has_the_descriptions():
    properties = Paint.model_json_schema(by_alias=True)["properties"]
    assert {key: value.get("description") for key, value in properties.items()} == {
        "hue": None,
        "bits": "Bits.",
        "shade": "Stated.",
        "gloss": "Share.",
    }


def test_no_source_is_read_before_it_is_asked_for():
    code = "import sys, morula.training.options; from morula.core.attribute_docs import _docs_in; sys.exit(_docs_in.cache_info().currsize)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert "use_attribute_docstrings" not in Options.model_config
