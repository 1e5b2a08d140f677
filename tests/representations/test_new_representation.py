"""A representation of another package touches no decoder: it states what it says, and decoders use it."""

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Literal

import numpy as np

import morula
from morula.core.family import Member
from morula.decoders.decode import decode_objects
from morula.labels.boundaries import boundaries
from morula.representations import REPRESENTATIONS
from morula.representations.base import Representation, one_channel
from morula.representations.options import RepresentationOptions


class InnerOptions(RepresentationOptions):
    """Options of the channel Q."""

    kind: Literal["Q"] = "Q"
    """Name of the variant."""


class Inner(Representation[InnerOptions]):
    """1 inside objects but for their outermost voxels."""

    code = "Q"
    options_class = InnerOptions
    foreground_probability = True

    def encode(self, labels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Targets (1, (Z)YX)."""
        return one_channel((labels > 0) & (boundaries(labels, "inner") == 0))


def test_decoders_use_a_representation_that_they_do_not_know(monkeypatch):
    place = "tests_of_a_new_representation"
    monkeypatch.setitem(sys.modules, place, SimpleNamespace(Inner=Inner, InnerOptions=InnerOptions))  # as an installed package would be
    member = Member(f"{place}:Inner", f"{place}:InnerOptions", "inside without the rim", "inner")
    monkeypatch.setitem(REPRESENTATIONS.members, "Q", member)
    labels = np.zeros((20, 30), np.uint32)
    labels[2:18, 2:14], labels[2:18, 14:28] = 1, 2
    for channels, decoder in (
        (["Q", "C"], "watershed"),
        (["inner"], "connected_components"),
        (["Q", "G"], "flows"),
        (["Q", "R"], "stardist"),
    ):
        objects = decode_objects(morula.encode(labels, channels), channels, decoder)
        assert len(objects) == 2, decoder


def test_channels_have_full_names():
    labels = np.array([[0, 1, 1, 1, 2, 2, 2, 0]] * 3)
    made = morula.encode(labels, {"foreground": {"erosion": 1}, "contour": None})
    np.testing.assert_array_equal(made, morula.encode(labels, {"F": {"erosion": 1}, "C": None}))
    assert morula.decode(morula.encode(labels, ["F", "C"]), ["foreground", "contour"]).max() == 2
    assert all(member.full_name for member in REPRESENTATIONS.builtin.values())
