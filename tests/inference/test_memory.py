"""What there is and what a network takes."""

from __future__ import annotations

import psutil
import pytest
import torch
from torch import nn

from morula.inference.memory import _control_groups, available_memory, measure_bytes_per_voxel, parse_bytes
from morula.testing.errors import raises


@pytest.mark.parametrize(("text", "n"), [("8GB", 8 * 10**9), ("2 GiB", 2**31), ("500mb", 5 * 10**8), (123, 123), ("1.5k", 1500)])
def test_sizes(text, n):
    assert parse_bytes(text) == n


@pytest.mark.parametrize("text", ["", "many", "8 GX", "-1GB", "0", 0])
def test_invalid_sizes(text):
    with raises("memory.size", key="memory", value=text):
        parse_bytes(text)


def test_available_memory_is_below_the_total():
    assert available_memory("3GB") == 3 * 10**9
    assert 0 < available_memory() < psutil.virtual_memory().total


def test_control_groups_limit(tmp_path):
    own = tmp_path / "own"
    own.write_text("4:memory:/job\n3:cpuset:/\n0::/slice/unit\n")
    for folder, files in {
        "memory/job": {"memory.limit_in_bytes": 1000, "memory.usage_in_bytes": 700, "memory.stat": "total_inactive_file 200"},
        "slice": {"memory.max": 5000, "memory.current": 1000, "memory.stat": "inactive_file 50\nanon 7"},
        "slice/unit": {"memory.max": "max", "memory.current": 1000},
    }.items():
        (tmp_path / folder).mkdir(parents=True)
        for name, value in files.items():
            (tmp_path / folder / name).write_text(f"{value}\n")
    assert sorted(_control_groups(tmp_path, own)) == [500, 4050]
    assert list(_control_groups(tmp_path, tmp_path / "none")) == []


@pytest.mark.parametrize("ndim", [2, 3])
def test_bytes_per_voxel_count_live_tensors(ndim):
    conv = nn.Conv2d if ndim == 2 else nn.Conv3d
    net = nn.Sequential(conv(1, 8, 3, padding=1), nn.ReLU(), conv(8, 8, 3, padding=1), conv(8, 2, 1))
    # the image, the input of a layer and its output: 1 + 8 + 8 channels
    assert measure_bytes_per_voxel(net, 1, (4,) * ndim) == pytest.approx(1.25 * 17 * 4, rel=0.02)


def test_bytes_per_voxel_of_a_network_with_pooling():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(16, 1, 3, padding=1)

        def forward(self, x):
            a = self.a(x)
            b = self.b(torch.max_pool2d(a, 4))
            return self.c(torch.cat([a, nn.functional.interpolate(b, scale_factor=4)], 1))

    # image, a, a quarter of a quarter of b, the enlarged b and both joined
    assert measure_bytes_per_voxel(Net(), 1, (4, 4)) == pytest.approx(1.25 * 4 * (1 + 8 + 0.5 + 8 + 16), rel=0.05)
