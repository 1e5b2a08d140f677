"""The corpus of `make fuzz`: seeds, and files that once broke the rule that reading ends well or in one error that helps."""

import shutil
from pathlib import Path

import pytest

from morula.testing.bad_images import BadInput
from morula.testing.bad_inputs import attempt, kind_of_file

CORPUS = Path(__file__).parents[1] / "corpus"


@pytest.mark.parametrize("name", sorted(path.name for path in CORPUS.iterdir()))
def test_file_of_the_corpus(tmp_path, name):
    shutil.copy(CORPUS / name, tmp_path / name)
    for kind in kind_of_file(name):
        assert not attempt(BadInput(name, tmp_path / name, kind)).failure
