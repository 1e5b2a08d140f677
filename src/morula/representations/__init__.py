"""Representations: what a network is taught about objects, one channel (or one group of channels) a file."""

from morula.core.family import Family, Member

_HERE = "morula.representations"

REPRESENTATIONS = Family(
    "channel",
    {
        "F": Member(f"{_HERE}.foreground:Foreground", f"{_HERE}.foreground:Options", "inside of objects"),
        "B": Member(f"{_HERE}.background:Background", f"{_HERE}.background:Options", "outside of objects"),
        "P": Member(f"{_HERE}.centre:Centre", f"{_HERE}.centre:Options", "centre or skeleton of each object"),
        "C": Member(f"{_HERE}.contour:Contour", f"{_HERE}.contour:Options", "contour of each object"),
        "Db": Member(f"{_HERE}.distance_boundary:DistanceToBoundary", f"{_HERE}.distance_boundary:Options", "distance to the boundary"),
        "Dc": Member(f"{_HERE}.distance_centre:DistanceToCentre", f"{_HERE}.distance_centre:Options", "distance to the centre"),
        "T": Member(f"{_HERE}.touching:Touching", f"{_HERE}.touching:Options", "where objects touch"),
        "D": Member(f"{_HERE}.signed_distance:SignedDistance", f"{_HERE}.signed_distance:Options", "distance, negative outside"),
        "Dn": Member(f"{_HERE}.distance_neighbour:DistanceToNeighbour", f"{_HERE}.distance_neighbour:Options", "nearness to other objects"),
        "H": Member(f"{_HERE}.offset:Horizontal", f"{_HERE}.offset:HorizontalOptions", "way to the centre along x"),
        "V": Member(f"{_HERE}.offset:Vertical", f"{_HERE}.offset:VerticalOptions", "way to the centre along y"),
        "Z": Member(f"{_HERE}.offset:Depth", f"{_HERE}.offset:DepthOptions", "way to the centre along z"),
        "R": Member(f"{_HERE}.radial:RadialDistances", f"{_HERE}.radial:Options", "distances to the boundary along rays"),
        "E": Member(f"{_HERE}.embedding:Embedding", f"{_HERE}.embedding:Options", "where the centre lies and which voxels belong to it"),
        "A": Member(f"{_HERE}.affinity:Affinities", f"{_HERE}.affinity:Options", "whether neighbours are of one object"),
        "G": Member(f"{_HERE}.flow:Flow", f"{_HERE}.flow:Options", "unit vectors towards the centre"),
        "M": Member(f"{_HERE}.mask:WithContour", f"{_HERE}.mask:Options", "inside of objects and contour"),
    },
    group="morula.representations",
)
