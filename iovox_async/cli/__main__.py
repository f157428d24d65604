"""Runs the command `iovox` for `python -m iovox_async.cli`."""

from . import main

if __name__ == "__main__":
    main()
