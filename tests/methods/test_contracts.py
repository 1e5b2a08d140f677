"""The contracts of the four interfaces hold for all methods."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from morula.methods import METHODS
from morula.testing.method_contracts import CONTRACTS


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("kind", METHODS.names)
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_contract(contract: Callable[[str, int], None], kind: str, ndim: int) -> None:
    contract(kind, ndim)
