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
    },
    group="morula.decoders",
)
