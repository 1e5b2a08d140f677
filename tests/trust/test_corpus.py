"""The corpus of `make fuzz`: seeds, and files that once broke the rule that reading ends well or in one error that helps."""

import random
import shutil
from pathlib import Path

import pytest

from morula.testing.bad_images import BadInput
from morula.testing.bad_inputs import attempt, kind_of_file
from morula.testing.mutations import flipped_bits

CORPUS = Path(__file__).parents[1] / "corpus"
OTHERS = ["cells.czi", "cells.nd2", "cells.lif", "rois.zip", "cells.geojson", "coco.json", "cells_seg.npy", "package.zip"]
"""Files of other programs; the full number of changes is tried by `python -m bench trust`."""


@pytest.mark.parametrize("name", sorted(path.name for path in CORPUS.iterdir()))
def test_file_of_the_corpus(tmp_path, name):
    shutil.copy(CORPUS / name, tmp_path / name)
    for kind in kind_of_file(name):
        assert not attempt(BadInput(name, tmp_path / name, kind)).failure


@pytest.mark.parametrize("name", OTHERS)
def test_changed_files_of_other_programs(tmp_path, name):
    content, choice = (CORPUS / name).read_bytes(), random.Random(name)
    for number in range(6):
        path = tmp_path / str(number) / name
        path.parent.mkdir()
        path.write_bytes(flipped_bits(content[: choice.choice([len(content), len(content) // 2])], choice, count=1 + number))
        for kind in kind_of_file(name):
            assert not attempt(BadInput(name, path, kind)).failure
