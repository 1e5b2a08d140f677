"""Every row of the documented table of formats and fields holds."""

import pytest

from morula.testing.format_fields import ROWS, found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.format}, {row.field}")
def test_what_is_read_of_a_field(tmp_path, row):
    path = tmp_path / f"a{row.suffix}"
    row.write(path)
    facts = found(path)
    word = next(word for word in ("axes", "shape", "voxel size", "warning", "error") if row.gives.startswith(f"{word} "))
    assert f"{word} {facts.get(word)}" == row.gives, facts
