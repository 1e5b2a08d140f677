"""Functions that Numba compiles, without importing Numba before one of them is called.

Many modules define such functions, most commands call none of them, and Numba takes longer to import than `morula check` takes.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, cast

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Compiled(Generic[Arguments, Result]):
    """A function that is handed to `numba.njit` when it is called for the first time. Attributes are those of Numba's dispatcher."""

    def __init__(self, function: Callable[Arguments, Result], options: dict[str, object]) -> None:
        functools.update_wrapper(self, function)
        self._function = cast("types.FunctionType", function)
        self._options = options
        self._dispatcher: Any = None

    @property
    def dispatcher(self) -> Any:
        """What `numba.njit` makes of the function."""
        if self._dispatcher is None:
            from numba import njit as compiler

            self._dispatcher = cast("Any", compiler)(**self._options)(self._function)
            # the compiler looks functions that are called up by their global names, and has to find dispatchers there
            names = self._function.__globals__
            for name in (self._function.__name__, *self._function.__code__.co_names):
                if isinstance(called := names.get(name), Compiled):
                    names[name] = called.dispatcher
        return self._dispatcher

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Call the function; compile it, or load what was compiled before, if that is needed."""
        result: Result = self.dispatcher(*args, **kwargs)
        return result

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.dispatcher, name)

    def __reduce__(self) -> str | tuple[Any, ...]:
        reduced: str | tuple[Any, ...] = self.dispatcher.__reduce__()
        return reduced


def njit(**options: object) -> Callable[[Callable[Arguments, Result]], Compiled[Arguments, Result]]:
    """Decorator with the options of `numba.njit`.

    Examples:
        >>> @njit(nogil=True)
        ... def doubled(number: int) -> int:
        ...     return 2 * number
        >>> doubled(3)
        6
    """
    return lambda function: Compiled(function, options)
