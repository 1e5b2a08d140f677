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
    },
    group="morula.decoders",
)
