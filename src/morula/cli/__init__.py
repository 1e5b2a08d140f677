"""The command line. It starts in a fraction of a second: modules of commands are imported when a command uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from morula.cli import app as app
    from morula.cli import biapy as biapy
    from morula.cli import check as check
    from morula.cli import demo as demo
    from morula.cli import doctor as doctor
    from morula.cli import info as info
    from morula.cli import models as models
    from morula.cli import new as new
    from morula.cli import printing as printing

# imported when they are first used, as the modules of `morula.workflows`
_MODULES = ["app", "biapy", "check", "demo", "doctor", "info", "models", "new", "printing"]

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=_MODULES)


def main() -> None:
    """Entry point of the command ``morula``."""
    # not at the top: other modules of the package are imported without the commands
    from morula.cli.app import app

    app()
