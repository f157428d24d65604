"""Measures speed and memory of iovox_async beside other programs: `python -m benchmarks`.

Each figure comes from a process of its own, against a server on another core that does almost no work, and counts only if
the program received every call exactly once. The benchmarks:

    throughput    CPU, wall clock, memory, stalls, first record and requests, beside the peers
    all_fields    CPU of calls with transcriptions and all other fields
    first_record  how long until the first record, beside one plain page
    growth        time and memory from 10,000 to 1,000,000 calls
    heavy         records of 7 KB, pages of 20,000: the longest stall of the event loop
    backfill      a range to Parquet files, beside dlt and pandas
    blocking      CPU of the blocking client beside the async one
    startup       CPU of the import and of `iovox --help`
    engines       httpx, httpx2 and aiohttp, and gzip over a slow line

Results are kept in `results/results.json`; `pictures.py` draws them, and `documents.py` writes them into README and guide. `inner.py` (pytest-benchmark) times inner functions.
"""
