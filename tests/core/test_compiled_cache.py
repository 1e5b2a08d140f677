"""Compiled functions are stored where the user can write."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from morula.core import compiled_cache
from morula.core.compiled_cache import VARIABLE, use_writable_cache


@pytest.fixture
def read_only(monkeypatch, tmp_path):
    """Only the temporary folder can be written to."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(compiled_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(compiled_cache.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(compiled_cache.os, "access", lambda path, mode: Path(path).is_relative_to(tmp_path))
    return tmp_path


def test_a_writable_installation_keeps_its_cache(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(compiled_cache.os, "access", lambda path, mode: True)
    use_writable_cache()
    assert VARIABLE not in os.environ


def test_the_choice_of_the_user_is_kept(read_only, monkeypatch):
    monkeypatch.setenv(VARIABLE, "mine")
    use_writable_cache()
    assert os.environ[VARIABLE] == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="the temporary folder of Windows is private")
@pytest.mark.parametrize("planted", [None, "file", "open folder", "link"])
def test_read_only_installations_use_a_private_folder(read_only, monkeypatch, planted):
    monkeypatch.setattr(compiled_cache, "_user_cache", lambda: Path("/nowhere"))
    place = read_only / f"morula-numba-{os.getuid()}"
    if planted == "file":
        place.touch()
    elif planted == "open folder":
        place.mkdir()
        place.chmod(0o777)
    elif planted == "link":
        place.symlink_to(read_only)
    use_writable_cache()
    chosen = Path(os.environ[VARIABLE])
    monkeypatch.delenv(VARIABLE)
    assert chosen.parent == read_only
    assert (chosen == place) == (planted is None)
    assert not chosen.is_symlink()
    assert chosen.stat().st_mode & 0o077 == 0


def test_numba_compiles_there(tmp_path):
    """A function is compiled and stored although the cache of the installation and of the user cannot be written to."""
    code = """
import os
from pathlib import Path
access = os.access
os.access = lambda path, mode: False if mode == os.W_OK else access(path, mode)
import morula
import numba.core.caching as caching
assert numba_folder() == caching.config.CACHE_DIR
""".replace("numba_folder()", f"os.environ[{VARIABLE!r}]")
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop(VARIABLE, None)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
    assert len(list(tmp_path.iterdir())) == 1
