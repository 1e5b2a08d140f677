"""The pages of the benchmarks, from invented results and from the stored ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
PROGRAM = """
import json, sys
from pathlib import Path
import labels, page
gain, seeds, folder = float(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
scores, curves = {}, {}
for setting in labels.SETTINGS:
    for seed in setting.seeds[:seeds]:
        for start in setting.starts:
            key = labels.key_of(setting, seed, start)
            scores[key] = 0.8 + 0.01 * seed + (0 if "scratch" in start else gain)
            curves[key] = {"steps": [50, 100], "loss": [1.5, 1.2]}
row = labels.summary(scores, curves, complete=True)
row |= {"command": "", "date": "", "machine": "", "versions": {}}
(folder / "labels.json").write_text(json.dumps(row))
page.write_pages(folder, folder)
"""


STORED = """
from pathlib import Path
import page
pages, stored = sorted(Path("../docs/benchmarks").glob("*.md")), page.read_results(Path("results"))
shown = [name for path in pages for name in page.rows_of(path.read_text())]
assert sorted(shown) == sorted(stored), sorted(set(shown) ^ set(stored))
assert all(page.filled(path.read_text(), stored) == path.read_text() for path in pages)
assert "summary" in (Path("../docs/benchmarks/index.md")).read_text()
"""


def run(program: str, *arguments: str) -> None:
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=BENCH, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("gain", "verdict"), [(-0.01, "There is no gain of +0.03"), (0.02, "There is no gain"), (0.05, "is reached by crappify and masking")]
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_few_labels(tmp_path: Path, gain: float, verdict: str, seeds: int) -> None:
    (tmp_path / "page.md").write_text("# Page\n\n<!-- bench: labels -->\n<!-- bench: end -->\n\nThe end.\n")
    run(PROGRAM, str(gain), str(seeds), str(tmp_path))
    text = (tmp_path / "page.md").read_text()
    assert verdict in text
    assert text.endswith("The end.\n")
    assert "| nuclei2d | 5 | U-Net |" in text
    assert f"{gain:+.3f} | {seeds} |" in text
    figure = ElementTree.parse(tmp_path / "labels.svg").getroot()
    assert len(figure.findall(".//{*}circle")) == 4 * seeds + 1
    assert json.loads((tmp_path / "labels.json").read_text())["scores"]


def test_pages_show_every_stored_result_once() -> None:
    run(STORED)
