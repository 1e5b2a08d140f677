"""Shapes and intensities of real volumes beside those of simulated ones: `python models/volume_statistics.py` prints a Markdown table.

Real images stay where they are (`MORULA_DATA`); only these figures are published. Of the simulated volumes, the 5th to the 95th percentile
is shown.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from scipy import ndimage

import morula
from morula.testing.varied import draw_conditions, simulate_varied

SETS = {
    "nuclei3d_embryo": (("train", "val"), (1.75, 0.8, 0.8)),
    "nuclei3d_ovule": (("train", "val"), (0.2837, 0.1268, 0.1268)),
}
"""Splits and voxel size of each labelled data set; the test volumes stay unseen."""
SIMULATED = 60


def figures(image: np.ndarray, labels: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    """What a labelled volume is like."""
    scale = np.asarray(spacing) / spacing[-1]
    sizes = np.bincount(labels.ravel())[1:]
    ids = np.flatnonzero(sizes) + 1
    diameters = np.cbrt(6 * sizes[ids - 1] * scale.prod() / np.pi)
    image = image.astype(np.float64)
    dark = np.median(image[labels == 0])
    bright = ndimage.mean(image, labels, ids) - dark
    inside = (labels[..., 1:] > 0) & (labels[..., 1:] == labels[..., :-1])
    noise = np.diff(image, axis=-1)[inside].std() / np.sqrt(2)
    return {
        "voxel length z / x": scale[0],
        "median diameter, voxels along x": float(np.median(diameters)),
        "spread of diameters (SD of the logarithm)": float(np.log(diameters).std()),
        "nuclei cover, %": 100 * float((labels > 0).mean()),
        "spread of brightness (SD / mean)": float(bright.std() / bright.mean()),
        "contrast / noise within nuclei": float(bright.mean() / noise),
        "longest / shortest semi-axis, median": float(np.median([elongation(labels == i, scale) for i in ids[:40]])),
    }


def elongation(mask: np.ndarray, scale: np.ndarray) -> float:
    """Ratio of the longest to the shortest semi-axis of the ellipsoid with the moments of an object."""
    points = np.argwhere(mask) * scale
    values = np.linalg.eigvalsh(np.cov(points.T) + np.diag(scale**2) / 12) if len(points) > 1 else np.ones(3)
    return float(np.sqrt(values[-1] / values[0]))


def main() -> None:
    """Print the table."""
    data = Path(os.environ.get("MORULA_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")).resolve()
    columns: dict[str, list[dict[str, float]]] = {}
    for name, (splits, spacing) in SETS.items():
        files = [file for split in splits for file in sorted((data / name / split / "images").glob("*.tif"))]
        columns[name] = [
            figures(*(np.asarray(morula.read(part)) for part in (file, file.parents[1] / "labels" / file.name)), spacing) for file in files
        ]
    simulated = []
    for index in range(SIMULATED):
        rng = np.random.default_rng((7, index))
        made = simulate_varied(draw_conditions(rng), extent=(4.5, 7.0, 7.0), rng=rng)
        if made.labels.max() > 2:
            simulated.append(figures(made.image, made.labels, made.spacing))
    columns[f"simulated ({len(simulated)} volumes)"] = simulated
    print("| | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
    for key in simulated[0]:
        cells = []
        for name, rows in columns.items():
            low, high = np.percentile([row[key] for row in rows], (5, 95) if "simulated" in name else (0, 100))
            cells.append(f"{low:.2g}" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} – {high:.2g}")
        print(f"| {key} | " + " | ".join(cells) + " |")


main()
