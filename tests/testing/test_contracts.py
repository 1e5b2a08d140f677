"""Every member of every family keeps its laws, by being listed."""

import pytest

from morula.data.augment import AUGMENTATIONS
from morula.decoders import DECODERS
from morula.io import FORMATS
from morula.losses import LOSSES
from morula.metrics import METRICS
from morula.nn import NETWORKS
from morula.representations import REPRESENTATIONS
from morula.testing.contracts import (
    AUGMENTATION_LAWS,
    FORMAT_LAWS,
    METRIC_LAWS,
    REPRESENTATION_LAWS,
)
from morula.testing.decoder_contracts import DECODER_LAWS
from morula.testing.torch_contracts import LOSS_LAWS, NETWORK_LAWS

LISTED = [
    (REPRESENTATIONS, REPRESENTATION_LAWS),
    (DECODERS, DECODER_LAWS),
    (NETWORKS, NETWORK_LAWS),
    (LOSSES, LOSS_LAWS),
    (AUGMENTATIONS, AUGMENTATION_LAWS),
    (METRICS, METRIC_LAWS),
]

# the class weights of weighted_ce follow the prediction of all voxels, ignored ones too, and carry no gradient: as in pytorch-3dunet
EXCEPTIONS = {("weighted_ce", law) for law in ("loss_ignores_what_has_no_weight", "loss_has_the_right_gradient")}


@pytest.mark.parametrize(
    ("law", "name"),
    [
        pytest.param(law, name, id=f"{family.kind} {name}: {law.__name__}")
        for family, laws in LISTED
        for law in laws
        for name in family.names
        if (name, law.__name__) not in EXCEPTIONS
    ],
)
def test_member(law, name):
    law(name)


@pytest.mark.parametrize("law", FORMAT_LAWS)
@pytest.mark.parametrize("name", FORMATS.names)
def test_format(law, name, tmp_path):
    law(name, tmp_path)
