"""Flows to the ridge of objects: they lead inwards, turn with the image, and end where one object is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from morula.core.orientation import orientations
from morula.decoders.decode import decode
from morula.labels.ridge_flow import ridge_flow
from morula.metrics.matching import match
from morula.representations.encode import build_channels, encode

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "labels" / "channels.npz")
CHANNELS = {"D": {}, "G": {"leads_to": "ridge"}}


def rods() -> np.ndarray:
    """Long objects, two of them side by side and one bent."""
    labels = np.zeros((48, 64), np.uint32)
    labels[4:10, 4:58], labels[10:16, 6:60] = 1, 2
    labels[22:28, 4:40], labels[22:44, 34:40] = 3, 3
    labels[34:41, 6:26] = 4
    return labels


def test_vectors_lead_into_the_object_and_end_at_its_ridge() -> None:
    labels = rods()
    flow = ridge_flow(labels, (1, 1))
    assert (flow[:, labels == 0] == 0).all()
    assert np.sqrt((flow**2).sum(axis=0)).max() <= 1 + 1e-6
    # a step along the vector never leaves the object
    places = np.argwhere(labels > 0)
    ends = places + np.rint(flow[:, labels > 0]).T.astype(int)
    assert np.array_equal(labels[tuple(ends.T)], labels[labels > 0])
    # between the two middle rows of a rod, vectors meet
    assert (flow[0, 4:6, 20] > 0).all()
    assert (flow[0, 8:10, 20] < 0).all()
    assert (np.abs(flow[1, 4:10, 20:40]) < 1e-6).all()


def test_lengths_are_physical() -> None:
    labels = np.zeros((9, 40), np.uint32)
    labels[1:8, 5:35] = 1
    fine = ridge_flow(labels, (1, 1))
    assert np.allclose(ridge_flow(labels, (0.5, 0.5)), fine, atol=1e-6)
    assert np.allclose(ridge_flow(labels, (2, 1))[0, 1:3, 20], 1, atol=1e-6)


@pytest.mark.parametrize("size", ["2d", "3d"])
def test_decoding_inverts_encoding_of_cells(size: str) -> None:
    labels = GOLDEN[f"labels_{size}"].astype(np.uint32)
    (scores,) = match(labels, decode(encode(labels, CHANNELS), CHANNELS), thresholds=[0.7])
    assert scores.f1 > 0.85


def test_rods_are_one_object_each() -> None:
    labels = rods()
    found = decode(encode(labels, CHANNELS), CHANNELS)
    pairs = np.unique(np.stack([labels.ravel(), found.ravel()]), axis=1)
    assert pairs.shape[1] == 5


def test_the_channels_turn_with_the_image() -> None:
    labels = rods()
    flow = build_channels({"G": {"leads_to": "ridge"}})[0]
    for turn in orientations((1, 1)):
        turned = np.ascontiguousarray(turn.apply(labels))
        assert np.allclose(flow.encode(turned, (1, 1)), flow.reorient(flow.encode(labels, (1, 1)), turn), atol=1e-6)
