"""The command line as `python -m morula`, where the command `morula` is not on the path."""

from morula.cli import main

if __name__ == "__main__":  # worker processes that are spawned import this module again
    main()
