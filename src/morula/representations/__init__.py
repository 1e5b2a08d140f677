"""Representations: what a network predicts about objects, one channel (or one group of channels) per file.

A channel has a short code and a full name; both are accepted wherever channels are named.
"""

from morula.core.family import Family, Member


def _member(implementation: str, options: str, full_name: str, summary: str) -> Member:
    here = "morula.representations"
    return Member(f"{here}.{implementation}", f"{here}.{options}", summary, full_name)


REPRESENTATIONS = Family(
    "channel",
    {
        "F": _member("foreground:Foreground", "foreground:Options", "foreground", "inside of objects"),
        "B": _member("background:Background", "background:Options", "background", "outside of objects"),
        "P": _member("centre:Centre", "centre:Options", "centre", "centre or skeleton of each object"),
        "C": _member("contour:Contour", "contour:Options", "contour", "contour of each object"),
        "Db": _member("distance_boundary:DistanceToBoundary", "distance_boundary:Options", "boundary_distance", "distance to the boundary"),
        "Dc": _member("distance_centre:DistanceToCentre", "distance_centre:Options", "centre_distance", "distance to the centre"),
        "T": _member("touching:Touching", "touching:Options", "touching", "where objects touch"),
        "D": _member(
            "signed_distance:SignedDistance", "signed_distance:Options", "signed_distance", "distance to the boundary, negative outside"
        ),
        "Dn": _member(
            "distance_neighbour:DistanceToNeighbour", "distance_neighbour:Options", "neighbour_distance", "proximity of other objects"
        ),
        "H": _member("offset:Horizontal", "offset:HorizontalOptions", "offset_x", "offset to the centre along x"),
        "V": _member("offset:Vertical", "offset:VerticalOptions", "offset_y", "offset to the centre along y"),
        "Z": _member("offset:Depth", "offset:DepthOptions", "offset_z", "offset to the centre along z"),
        "R": _member("radial:RadialDistances", "radial:Options", "rays", "distances to the boundary along rays"),
        "E": _member("embedding:Embedding", "embedding:Options", "embedding", "offset to the centre, bandwidth and seediness"),
        "A": _member("affinity:Affinities", "affinity:Options", "affinities", "whether neighbours belong to the same object"),
        "G": _member("flow:Flow", "flow:Options", "flow", "unit vectors that lead to the centre"),
        "M": _member("mask:WithContour", "mask:Options", "mask", "inside of objects and contour"),
    },
    group="morula.representations",
)
