"""Decoders: from predicted channels to objects, one way a file."""

from morula.core.family import Family, Member

DECODERS = Family(
    "decoder",
    {
        "watershed": Member(
            "morula.labels.decoders.watershed:Watershed",
            "morula.labels.decoders.watershed:Options",
            "seeds grow on a surface until they meet",
        ),
        "embedseg": Member(
            "morula.labels.decoders.embedseg:EmbedSeg",
            "morula.labels.decoders.embedseg:Options",
            "voxels that are embedded near a sure one are of its object",
        ),
        "mutex_watershed": Member(
            "morula.labels.decoders.mutex_watershed:MutexWatershed",
            "morula.labels.decoders.mutex_watershed:Options",
            "near affinities attract, far ones repel",
        ),
        "agglomeration": Member(
            "morula.labels.decoders.agglomeration:Agglomeration",
            "morula.labels.decoders.agglomeration:Options",
            "fragments are joined where affinities across their contact are high",
        ),
        "voronoi_otsu": Member(
            "morula.labels.decoders.foreground:VoronoiOtsu",
            "morula.labels.decoders.foreground:VoronoiOtsuOptions",
            "spots of F share the foreground, each voxel to the nearest",
        ),
        "seeded_watershed": Member(
            "morula.labels.decoders.foreground:SeededWatershed",
            "morula.labels.decoders.foreground:SeededWatershedOptions",
            "high values of F flood the foreground",
        ),
        "connected_components": Member(
            "morula.labels.decoders.foreground:ConnectedComponents",
            "morula.labels.decoders.foreground:ConnectedComponentsOptions",
            "connected pieces of F",
        ),
        "stardist": Member(
            "morula.labels.decoders.stardist:StarDist",
            "morula.labels.decoders.stardist:Options",
            "polygons or polyhedra of rays, the best of those that overlap",
        ),
        "flows": Member(
            "morula.labels.decoders.flows:Flows",
            "morula.labels.decoders.flows:Options",
            "voxels that flow to the same place are one object",
        ),
    },
    group="morula.decoders",
)
