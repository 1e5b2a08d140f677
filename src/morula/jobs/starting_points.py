"""Jobs to start from: the methods under the names that users know, for windows and questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StartingPoint:
    """A method with what is special about it.

    Attributes:
        name: as users know it.
        description: what it needs and what it gives.
        method: the section `method` of a job.
        network: kind of the network that is planned for it.
        documented: options that the document of the method lists, with their names there; empty where there is no such list.
        labelled: whether it learns from labels.
        segments: whether the trained model makes labels.
    """

    name: str
    description: str
    method: Mapping[str, object]
    network: str = "unet"
    documented: Mapping[str, str] = field(default_factory=dict)
    labelled: bool = True
    segments: bool = True


WNET3D = {
    "classes": "Number of classes",
    "reconstruction": "Reconstruction loss",
    "intensity_sigma": "Intensity sigma",
    "spatial_sigma": "Spatial sigma",
    "radius": "Radius",
    "ncuts_weight": "NCuts weight",
    "reconstruction_weight": "Reconstruction weight",
}
"""Options on the tab Advanced of CellSeg3D's training window, see its walkthrough of WNet3D."""

STARTING_POINTS = (
    StartingPoint("WNet3D", "Objects without labels, by their brightness.", {"kind": "wnet3d"}, "wnet", WNET3D, labelled=False),
    StartingPoint("Channels", "Objects from labels: foreground, contour and distance, split by a watershed.", {"kind": "channels"}),
    StartingPoint("StarDist", "Round objects from labels, as star-convex shapes.", {"kind": "channels", "preset": "stardist"}),
    StartingPoint("EmbedSeg", "Objects of any shape from labels, by an embedding.", {"kind": "channels", "preset": "embedseg"}),
    StartingPoint(
        "Affinities", "Objects without background between them, such as tissue, from labels.", {"kind": "channels", "preset": "affinities"}
    ),
    StartingPoint("Flows", "Objects of any shape from labels, by flows to their centres.", {"kind": "channels", "preset": "flows"}),
    StartingPoint("Semantic", "A class for every pixel, from labels.", {"kind": "semantic"}),
    StartingPoint(
        "Pretraining", "Weights to start from, learned from images without labels.", {"kind": "crappify"}, labelled=False, segments=False
    ),
)
"""In the order in which they are offered."""


def starting_point(name: str) -> StartingPoint:
    """The starting point of a name.

    Examples:
        >>> starting_point("WNet3D").labelled
        False
    """
    return next(point for point in STARTING_POINTS if point.name == name)
