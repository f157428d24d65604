"""The commands: each is a module of its name, which is imported when the command is called."""

from typing import Final

#: Each command with the first sentence of its help, in the order of the list.
COMMANDS: Final = {
    "demo": "Read a quarter of calls from a local sandbox, faults included, and show the figures.",
    "calls": "Write the calls of a date range, each exactly once, one JSON document per line.",
    "backfill": "Download years of calls into a directory, one file per day or month.",
    "summary": "Count calls, answers and talk time by node, result, hour, tag or any other field.",
    "changes": "Print what a backfill has inserted, updated and deleted in a Delta table.",
    "follow": "Write new calls as they arrive, each once, until Ctrl-C.",
    "show": "Show one call: who, when, how long, transcript, tags, keywords, tasks, comments, categories.",
    "fields": "List the 56 response fields: name, type, path in the response, preset.",
    "docs": "Show a guide: streaming, backfill, dataframes, testing and more.",
    "doctor": "Check account, address, TLS, proxy, clock, time zone, page cap, latency, versions.",
    "profiles": "List the profiles of accounts in the configuration file.",
    "completion": "Print the script that completes commands, options and values in a shell.",
    "help": "Show help on a command, or on dates, environment, exit codes or formats.",
    "sandbox": "Serve a local sandbox of the endpoint until Ctrl-C: generated calls, faults on request.",
}
