"""What a job leaves out, planned from what its images are."""

from __future__ import annotations

from pathlib import Path

import pytest

from morula.jobs.load import load_job
from morula.jobs.plan import Facts, plan

JOB = """\
images: {train: {raw: images, labels: labels}}
method: {kind: channels}
"""


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("channels", "coloured"), [(1, False), (3, True)])
def test_images_of_several_channels_are_varied_in_colour(tmp_path: Path, ndim: int, channels: int, coloured: bool) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    facts = Facts(ndim, (1.0,) * ndim, channels, ((64,) * ndim,) * 4)
    for stated in ([], ["augment=[flip]"]):
        planned = plan(load_job(tmp_path / "job.yaml", overrides=stated), facts)
        kinds = [each.kind for each in planned.augment]
        assert ("colour" in kinds) is (coloured and not stated)
        assert not stated or kinds == ["flip"]
