"""Simulates the client, the endpoint, the clock and the order of all steps from one seed.

Read in this order:

- `schedule`: what one run consists of, drawn from a seed and kept as plain data;
- `runner`: runs a schedule; `loop` and `patches`: the event loop, the virtual clock and the threads of a run;
- `endpoint`, `world`, `transport`: the server, the changes of its data, and the network with its faults;
- `uses`, `follows`, `backfills`, `disk`: the programs that read, and the disk that dies;
- `checker`: the invariants;
- `shrink`, `exhaustive`, `mutations` with `planting`: smaller failures, every schedule within bounds, mistakes that must be found;
- `_names`: every name of the package that the simulation uses, and the one place where its clocks are replaced.

`python -m pytest tests/simulation` runs some thousand schedules, `-m slow` the searches that take minutes, and
`python -m tests.simulation --help` shows the command line.
"""
