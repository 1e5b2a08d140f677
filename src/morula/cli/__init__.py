"""The command line. It starts in a fraction of a second: everything heavy is imported by the command that needs it."""

from __future__ import annotations


def main() -> None:
    """Entry point of the command ``morula``."""
    from morula.cli.app import app

    app()
