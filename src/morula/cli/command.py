"""The running command, so that messages name only options that it has."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from typer.core import TyperCommand

from morula.core.remedy import fitting

_running: ContextVar[TyperCommand | None] = ContextVar("running command", default=None)


class Command(TyperCommand):
    """A command that is known while it runs."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        before = _running.set(self)
        try:
            return super().invoke(ctx)
        finally:
            _running.reset(before)


def options_of(command: TyperCommand) -> set[str]:
    """The long and short options of a command."""
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def takes_job(command: TyperCommand) -> bool:
    """Whether a command reads a job of Morula, from its file or from a run folder."""
    return any(parameter.name in ("job", "run") for parameter in command.params)


def in_command(text: str) -> str:
    """A text without the remedies that need an option which the running command does not have."""
    command = _running.get()
    return text if command is None else fitting(text, options_of(command), takes_job=takes_job(command))
