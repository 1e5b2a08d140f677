"""Decoders: predicted channels become objects, one algorithm per file. `morula.decoders.base` defines the interface."""

from morula.core.family import Family, Member

# classes are named by text: listing decoders imports neither Numba nor SciPy
# `auto` takes the first one that accepts the channels: general decoders first, and those of particular channels after them
DECODERS = Family(
    "decoder",
    {
        "watershed": Member(
            "morula.decoders.watershed:Watershed",
            "morula.decoders.watershed:Options",
            "flood a surface from one seed per object",
        ),
        "embedseg": Member(
            "morula.decoders.embedseg:EmbedSeg",
            "morula.decoders.embedseg:Options",
            "cluster voxels around seeds in embedding space",
        ),
        "mutex_watershed": Member(
            "morula.decoders.mutex_watershed:MutexWatershed",
            "morula.decoders.mutex_watershed:Options",
            "merge along short affinities unless long ones forbid it",
        ),
        "agglomeration": Member(
            "morula.decoders.agglomeration:Agglomeration",
            "morula.decoders.agglomeration:Options",
            "merge watershed fragments whose contacts have high affinities",
        ),
        "voronoi_otsu": Member(
            "morula.decoders.foreground:VoronoiOtsu",
            "morula.decoders.foreground:VoronoiOtsuOptions",
            "divide the foreground among the bright spots of F",
        ),
        "seeded_watershed": Member(
            "morula.decoders.foreground:SeededWatershed",
            "morula.decoders.foreground:SeededWatershedOptions",
            "flood the foreground from high values of F",
        ),
        "connected_components": Member(
            "morula.decoders.foreground:ConnectedComponents",
            "morula.decoders.foreground:ConnectedComponentsOptions",
            "connected components of F",
        ),
        "stardist": Member(
            "morula.decoders.stardist:StarDist",
            "morula.decoders.stardist:Options",
            "star-convex polygons or polyhedra, selected by non-maximum suppression",
        ),
        "flows": Member(
            "morula.decoders.flows:Flows",
            "morula.decoders.flows:Options",
            "group voxels whose trajectories converge",
        ),
    },
    group="morula.decoders",
)
