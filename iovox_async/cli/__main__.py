"""`python -m iovox_async.cli` is the command `iovox`."""

from . import main

if __name__ == "__main__":
    main()
