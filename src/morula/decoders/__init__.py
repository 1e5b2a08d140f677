"""Decoders: from predicted channels to objects, one way a file."""

from morula.core.family import Family, Member

DECODERS = Family(
    "decoder",
    {
        "watershed": Member(
            "morula.decoders.watershed:Watershed",
            "morula.decoders.watershed:Options",
            "seeds grow on a surface until they meet",
        ),
        "embedseg": Member(
            "morula.decoders.embedseg:EmbedSeg",
            "morula.decoders.embedseg:Options",
            "voxels that are embedded near a sure one are of its object",
        ),
        "mutex_watershed": Member(
            "morula.decoders.mutex_watershed:MutexWatershed",
            "morula.decoders.mutex_watershed:Options",
            "near affinities attract, far ones repel",
        ),
        "agglomeration": Member(
            "morula.decoders.agglomeration:Agglomeration",
            "morula.decoders.agglomeration:Options",
            "fragments are joined where affinities across their contact are high",
        ),
        "voronoi_otsu": Member(
            "morula.decoders.foreground:VoronoiOtsu",
            "morula.decoders.foreground:VoronoiOtsuOptions",
            "spots of F share the foreground, each voxel to the nearest",
        ),
        "seeded_watershed": Member(
            "morula.decoders.foreground:SeededWatershed",
            "morula.decoders.foreground:SeededWatershedOptions",
            "high values of F flood the foreground",
        ),
        "connected_components": Member(
            "morula.decoders.foreground:ConnectedComponents",
            "morula.decoders.foreground:ConnectedComponentsOptions",
            "connected pieces of F",
        ),
        "stardist": Member(
            "morula.decoders.stardist:StarDist",
            "morula.decoders.stardist:Options",
            "polygons or polyhedra of rays, the best of those that overlap",
        ),
        "flows": Member(
            "morula.decoders.flows:Flows",
            "morula.decoders.flows:Options",
            "voxels that flow to the same place are one object",
        ),
    },
    group="morula.decoders",
)
