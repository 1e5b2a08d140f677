"""Functions that are compiled when they are first called."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np

from morula.core.compiled import Compiled, njit


@njit(nogil=True, inline="always")
def _square(x: float) -> float:
    return x * x


@njit(nogil=True)
def _factorial(n: int) -> int:
    return 1 if n < 2 else n * _factorial(n - 1)


@njit(nogil=True)
def _sum_squares(values: np.ndarray) -> float:
    total = 0.0
    for i in range(values.size):
        total += _square(values[i])
    return total


def test_compiled_functions_call_each_other_and_themselves() -> None:
    values = np.arange(5.0)
    kept = _sum_squares  # calls replace the global name by what Numba makes of the function
    assert kept(values) == (values**2).sum() == _sum_squares(values)
    assert not isinstance(_square, Compiled)
    assert kept.signatures  # type: ignore[attr-defined] # attributes are those of Numba's dispatcher
    assert _factorial(5) == 120


def test_functions_keep_their_names_and_can_be_pickled() -> None:
    @njit(nogil=True)
    def doubled(number: int) -> int:
        """Two times a number."""
        return 2 * number

    assert isinstance(doubled, Compiled)
    assert (doubled.__name__, doubled.__doc__) == ("doubled", "Two times a number.")
    assert pickle.loads(pickle.dumps(doubled))(4) == doubled(4) == 8


def test_numba_is_imported_at_the_first_call() -> None:
    code = (
        "import sys, numpy as np, morula.kernels.object_tables as tables; assert 'numba' not in sys.modules\n"
        "tables.renumber(np.array([0, 5, 5]), 5); sys.exit('numba' not in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
