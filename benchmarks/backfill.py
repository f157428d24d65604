"""A range to Parquet files on this machine, beside a dlt pipeline and pandas."""

from __future__ import annotations

from .harness import Comparison, Goal, Options, compare, server
from .tables import report

NAMES = ("backfill", "backfill_command", "dlt_parquet", "pandas_parquet")
GOALS = (
    Goal("backfill_command", "pandas_parquet", "process_cpu", 0.32),
    Goal("backfill_command", "dlt_parquet", "process_cpu", 0.08),
    Goal("backfill_command", "pandas_parquet", "process_wall", 0.40),
    Goal("backfill_command", "pandas_parquet", "peak_mb", 0.25),
)
COLUMNS = (
    ("CPU us/call", "cpu_us", "{:.2f}"),
    ("process CPU s", "process_cpu", "{:.2f}"),
    ("process wall s", "process_wall", "{:.2f}"),
    ("peak MB", "peak_mb", "{:.0f}"),
    ("of it imports", "base_mb", "{:.0f}"),
    ("requests", "requests", "{:.0f}"),
    ("files", "files", "{:.0f}"),
    ("bytes on disk", "file_bytes", "{:,.0f}"),
)


def run(options: Options) -> Comparison:
    with server(options.calls) as service:
        comparison = compare(
            service,
            f"{options.calls:,} calls to Parquet, {options.latency * 1000:g} ms latency",
            NAMES,
            options,
            settings={"latency": options.latency},
            watch=False,
        )
    return report("backfill", comparison, GOALS, options, COLUMNS)
