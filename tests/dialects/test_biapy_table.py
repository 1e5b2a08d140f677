"""Jobs that together use the networks, channels, decoders, schedules and operations of BiaPy's documents run to the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.dialects.biapy_table import Keys, base, jobs, make_images
from tests.dialects.biapy_templates import TEMPLATES, reduced
from tests.dialects.test_biapy_versions import written

from morula.core.errors import JobError
from morula.dialects.biapy.convert import convert
from morula.dialects.verbs import run

JOBS = {f"{ndim}D {name}": keys for ndim in (2, 3) for name, keys in jobs(ndim)}
REFUSED = {
    **{f"{ndim}D diameter": "PROBLEM.INSTANCE_SEG.CELLPOSE.DIAMETER" for ndim in (2, 3)},
}
"""What cannot be obeyed, and the key that says why."""
RUN = (
    "2D network resunet++", "2D channels omnipose", "2D watershed", "2D stardist", "2D refinement", "2D gridmask",
    "3D network unetr", "3D embedseg", "3D channels A", "3D median", "3D crappify rcan",
    "2D image unetr", "2D image loss W_MAE_SSIM", "2D image target", "3D image dfcan", "3D image turned",
    "2D denoising lines", "3D denoising normal_fitted",
)  # fmt: skip
"""Those that are run here; ``python bench/biapy_jobs.py`` runs all."""


def test_all_jobs_are_converted_or_refused_with_a_reason(images: Path) -> None:
    refused = {}
    for name, keys in JOBS.items():
        try:
            convert(job(images, name, keys))
        except JobError as error:
            refused[name] = error.problems
    assert {name: problems[0].key for name, problems in refused.items()} == REFUSED
    assert all(problem.remedy for problems in refused.values() for problem in problems)


def job(folder: Path, name: str, keys: Keys) -> Path:
    whole = base(folder, int(name[0])) | keys
    return written(folder, {key: value for key, value in whole.items() if value is not None})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    make_images(folder)
    return folder


@pytest.mark.parametrize("name", RUN)
def test_jobs_run_to_the_end(tmp_path: Path, images: Path, name: str) -> None:
    path = job(images, name, JOBS[name])
    run(path, output=tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "report.html").is_file()
    kinds = ("objects", "predictions", "MAE_checks")
    assert any(next((tmp_path / "run" / kind).glob("*.tif"), None) for kind in kinds)


def test_whole_job_files_are_converted(tmp_path: Path) -> None:
    """With the sizes that such files state: nothing in them is unknown."""
    for keys in TEMPLATES.values():
        made = convert(written(tmp_path, {key: value for key, value in keys.items() if value is not None}))
        assert {"method", "network", "images"} <= made.job.keys()


@pytest.mark.parametrize("name", ["2D 3.0", "3D cells", "2D semantic"])
def test_whole_job_files_run(tmp_path: Path, images: Path, name: str) -> None:
    keys = {key: value for key, value in reduced(TEMPLATES[name], images).items() if value is not None}
    run(written(tmp_path, keys), output=tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "report.html").is_file()
