"""What the promises of speed and memory stand on: `python -m benchmarks` measures us beside our peers.

The law of this folder: a figure comes from a process of its own, against a server that costs nothing and sits on
another core, and counts only if every call came back. One program answers one question:

    throughput    CPU, wall clock, memory, stalls, first record and requests, beside the peers
    first_record  how long until the first record, beside one plain page
    growth        time and memory from 10,000 to 1,000,000 calls
    heavy         records of 7 KB, pages of 20,000: does the loop still turn
    backfill      a range to Parquet, beside dlt and pandas
    engines       httpx's own transport, aiohttp's, and gzip over a slow line

Results are kept as JSON in `results/`, and `pictures.py` draws them. `inner.py` (pytest-benchmark) times inner functions.
"""
