"""Another locale changes no byte: files are written with a decimal point also where the system writes a comma."""

from __future__ import annotations

import locale
import os
import shutil
import subprocess
import sys
from pathlib import Path, PureWindowsPath

import pytest

from morula.core.location import split_location, suffix_of

SCRIPT = """
import locale, sys
from pathlib import Path
locale.setlocale(locale.LC_ALL, "")
print(locale.localeconv()["decimal_point"])
import numpy as np
import morula
from morula.core.voxel_size import VoxelSize
from morula.io.read import read
from morula.io.write import write
from morula.jobs.yaml_lines import dump
from morula.measurement.csv_table import read_table, write_table
folder = Path(sys.argv[1])
labels = np.kron(np.arange(8).reshape(2, 2, 2), np.ones((4, 8, 8), int)).astype(np.uint16)
for name in ("a.tif", "a.ome.tif", "a.nii", "a.h5", "a.ome.zarr"):
    write(folder / name, labels, axes="ZYX", voxel_size=(2.5, 0.25, 0.25))
    assert read(folder / name).spacing == (2.5, 0.25, 0.25), name
table = morula.measure(labels, voxel_size=(2.5, 0.25, 0.25))
write_table(folder / "table.csv", table)
assert np.allclose(read_table(folder / "table.csv")["volume_um3"], table["volume_um3"])
(folder / "job.yaml").write_text(dump({"training": {"optimiser": {"lr": 0.0015}}}), encoding="utf-8")
assert str(VoxelSize(0.5, 0.25)).count("0.5") == 1
"""


def run(folder: Path, **variables: str) -> tuple[str, dict[str, bytes]]:
    folder.mkdir()
    call = [sys.executable, "-c", SCRIPT, str(folder)]
    done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **variables})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), {name: (folder / name).read_bytes() for name in ("table.csv", "job.yaml", "a.nii")}


@pytest.mark.skipif(shutil.which("localedef") is None, reason="no locale can be made")
def test_a_decimal_comma_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", str(tmp_path / "de_DE.UTF-8")], capture_output=True, check=False)
    if not (tmp_path / "de_DE.UTF-8").is_dir():
        pytest.skip(f"the locale cannot be made: {made.stderr.decode(errors='replace')[:80]}")
    mark, files = run(tmp_path / "german", LOCPATH=str(tmp_path), LC_ALL="de_DE.UTF-8", LANG="de_DE.UTF-8")
    assert mark == ","
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "plain")])
    (tmp_path / "plain").mkdir()
    before = locale.setlocale(locale.LC_ALL)
    exec(SCRIPT, {})  # without the time for another process
    locale.setlocale(locale.LC_ALL, before)
    assert files == {name: (tmp_path / "plain" / name).read_bytes() for name in files}


@pytest.mark.parametrize(
    ("text", "file", "inner"),
    [
        (r"C:\data\scan.h5", r"C:\data\scan.h5", None),
        (r"C:\data\scan.h5:/raw", r"C:\data\scan.h5", "raw"),
        (r"\\server\share\a b\scan.ome.zarr", r"\\server\share\a b\scan.ome.zarr", None),
        ("D:/data/scan.zarr:/0", "D:/data/scan.zarr", "0"),
    ],
)
def test_drive_letters_are_no_data_sets(text: str, file: str, inner: str | None) -> None:
    found, name = split_location(text)
    assert (PureWindowsPath(str(found)), name if name is None else name.strip("/")) == (PureWindowsPath(file), inner)
    assert suffix_of(PureWindowsPath(file).name) in (".h5", ".zarr", ".ome.zarr")
