"""A CZI file that another process reads, so that a damaged one cannot end the process of the user."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from morula.core.errors import MissingExtraError

_CHILD = Path(__file__).with_name("czi_child.py")


class CziProcess:
    """The process of `czi_child` for one file.

    Raises:
        MissingExtraError: without the package pylibCZIrw.
    """

    def __init__(self, path: Path) -> None:
        if find_spec("pylibCZIrw") is None:
            rule, remedy = "is a CZI file, which needs the package pylibCZIrw", "Install it with: pip install 'morula[formats]'"
            raise MissingExtraError("extra.pylibczirw", rule, file=path, remedy=remedy)
        # -P: the modules beside the file have names of packages
        command = [sys.executable, "-P", str(_CHILD), os.path.abspath(path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._owner, self._turn = os.getpid(), threading.Lock()

    def facts(self) -> dict[str, Any]:
        """What the directory and the metadata of the file say, see `czi_child.facts`."""
        return self._ask({})[0]

    def read(self, roi: tuple[int, int, int, int], plane: dict[str, int], scene: int | None, zoom: float) -> np.ndarray:
        """Values (y, x, sample) of a rectangle (x, y, width, height) of a plane."""
        return self._ask({"roi": roi, "plane": plane, "scene": scene, "zoom": zoom})[1]

    def close(self) -> None:
        """End the process; after a fork, only where it was started."""
        if self._owner == os.getpid():
            with suppress(BrokenPipeError), self._process:  # closes its pipes, and waits for its end
                self._process.kill()

    def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
        """The answer to a request.

        Raises:
            OSError: when the file cannot be read, or the process has ended.
        """
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        with self._turn:
            try:
                requests.write(json.dumps(request).encode() + b"\n")
                requests.flush()
                head = json.loads(answers.readline())
                dtype, shape = np.dtype(head.pop("dtype")), head.pop("shape")
                values = np.frombuffer(answers.read(dtype.itemsize * math.prod(shape)), dtype).reshape(shape)
            except (BrokenPipeError, ValueError) as error:  # no answer, or a part of one
                self.close()
                raise OSError("libCZI, the library that reads CZI files, crashed") from error
        if "error" in head:
            raise OSError(head["error"])
        return head, values
