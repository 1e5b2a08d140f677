"""Representations: what a network is taught about objects, one channel (or one group of channels) a file."""

from morula.core.family import Family, Member

_HERE = "morula.labels.representations"

REPRESENTATIONS = Family(
    "channel",
    {
        "F": Member(f"{_HERE}.foreground:Foreground", f"{_HERE}.foreground:Options", "inside of objects"),
        "B": Member(f"{_HERE}.background:Background", f"{_HERE}.background:Options", "outside of objects"),
        "P": Member(f"{_HERE}.centre:Centre", f"{_HERE}.centre:Options", "centre or skeleton of each object"),
        "C": Member(f"{_HERE}.contour:Contour", f"{_HERE}.contour:Options", "contour of each object"),
        "Db": Member(f"{_HERE}.distance_boundary:DistanceToBoundary", f"{_HERE}.distance_boundary:Options", "distance to the boundary"),
        "Dc": Member(f"{_HERE}.distance_centre:DistanceToCentre", f"{_HERE}.distance_centre:Options", "distance to the centre"),
    },
    group="morula.representations",
)
