"""Check that a wheel holds every file of the package: sources, pages, styles, tables, and the weights of bundled models."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def missing(wheel: Path) -> list[str]:
    """Files of `src/` under version control that the wheel lacks."""
    listing = subprocess.run(["git", "ls-files", "-z", "src"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    wanted = {path.removeprefix("src/") for path in listing.split("\0") if path}
    return sorted(wanted - set(zipfile.ZipFile(wheel).namelist()))


if __name__ == "__main__":
    absent = missing(Path(sys.argv[1]))
    if absent:
        sys.exit(f"{sys.argv[1]} lacks {', '.join(absent)}")
    print(f"{sys.argv[1]} is complete: {Path(sys.argv[1]).stat().st_size / 2**20:.1f} MiB")
