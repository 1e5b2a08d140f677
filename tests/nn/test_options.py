"""Options of the networks, and the planning of kernels and poolings."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from morula.core.options import description_of
from morula.nn import NETWORKS
from morula.nn.anisotropy import SMALLEST, plan_anisotropy
from morula.nn.options import UNetOptions
from morula.testing.errors import option_codes, raises


def test_options_need_no_torch():
    code = "import sys, morula.nn; [morula.nn.NETWORKS.options(n)() for n in morula.nn.NETWORKS.names]; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("kind", NETWORKS.names)
def test_every_field_is_described(kind):
    options = NETWORKS.options(kind)
    assert all(description_of(options, name) for name in options.model_fields)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"kernels": 4}, "network.even_kernel"),
        ({"kernels": (3, 3)}, "network.entries"),
        ({"pools": (2, 2, 2, 2)}, "network.entries"),
        ({"dropout": (0.1,)}, "network.entries"),
        ({"dropout": 1.0}, "less_than"),
        ({"features": ()}, "too_short"),
        ({"feature": (1,)}, "extra_forbidden"),
    ],
)
def test_invalid_options(options, code):
    with pytest.raises(ValidationError) as caught:
        UNetOptions(**options)
    assert code in option_codes(caught.value)


def test_axes_must_fit_the_image():
    with raises("network.axes", key="kernels", value=(3, 3)):
        UNetOptions(kernels=((3, 3), 3, 3, 3)).kernel_sizes(3)


def test_options_round_trip_through_json():
    options = UNetOptions(kernels=(3, (1, 3, 3), 3), features=(4, 8, 8), pools=((1, 2, 2), 2), dropout=(0, 0.1, 0.2))
    assert UNetOptions.model_validate_json(options.model_dump_json()) == options


def test_isotropic_images_get_cubes():
    kernels, pools = plan_anisotropy((0.3, 0.3, 0.3), (64, 64, 64), 4)
    assert set(kernels) == {(3, 3, 3)}
    assert pools == ((2, 2, 2),) * 3


def test_a_thin_patch_is_not_pooled_away():
    kernels, pools = plan_anisotropy((1, 1, 1), (8, 64, 64), 4)
    assert pools == ((2, 2, 2), (1, 2, 2), (1, 2, 2))
    assert kernels == ((3, 3, 3),) * 4


def test_a_small_patch_gets_fewer_levels():
    assert plan_anisotropy((1, 1), (12, 12), 5) == (((3, 3), (3, 3)), ((2, 2),))
    assert plan_anisotropy((1, 1), (4, 4), 5) == (((3, 3),), ())


@given(
    spacing=st.lists(st.floats(0.1, 10), min_size=2, max_size=3),
    edges=st.lists(st.integers(1, 300), min_size=3, max_size=3),
    levels=st.integers(1, 6),
    unit=st.floats(0.01, 100),
)
def test_laws_of_the_plan(spacing, edges, levels, unit):
    ndim = len(spacing)
    patch = edges[:ndim]
    kernels, pools = plan_anisotropy(spacing, patch, levels)
    assert 1 <= len(kernels) <= levels
    assert len(pools) == len(kernels) - 1
    sizes = list(patch)
    for pool in pools:
        assert max(pool) == 2
        sizes = [n // p for n, p in zip(sizes, pool, strict=True)]
        assert all(p == 1 or n >= SMALLEST for n, p in zip(sizes, pool, strict=True))
    assert {edge for kernel in kernels for edge in kernel} <= {1, 3}
    UNetOptions(features=(4,) * len(kernels), kernels=kernels, pools=pools)
    # the order of the axes and the unit of length do not matter
    assert plan_anisotropy([4 * s for s in spacing], patch, levels) == (kernels, pools)
    turned = plan_anisotropy(spacing[::-1], patch[::-1], levels)
    assert turned == (tuple(k[::-1] for k in kernels), tuple(p[::-1] for p in pools))
