"""`iovox calls`: its output, its files, and how a failed run is continued."""

import csv
import gzip
import io
import json
import os
import re
import shlex
import threading
from contextlib import closing

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import call_ids, parse_lines, resume_arguments

from iovox_async import Fields
from iovox_async._platform import lock_file
from iovox_async.sandbox import Sandbox

START, END = "2024-01-01", "2024-01-31"


def test_calls_are_json_lines_in_order(run, sandbox):
    """Given a range, when read, then stdout has each call on a line, as in responses, and stderr is empty."""
    result = run("calls", START, END)
    assert (result.exit_code, result.stderr) == (0, "")
    assert parse_lines(result.stdout) == sandbox.rows(START, END, fields=[*Fields.DEFAULT])


@pytest.mark.parametrize(
    ("options", "filters"),
    [
        (["--call-result", "VOICEMAIL"], {"call_result": "VOICEMAIL"}),
        (["--tag-colour", "red,GOLD"], {"tag_colour": ["RED", "GOLD"]}),
        (["--tag-colour", "RED", "--tag-colour", "GOLD"], {"tag_colour": ["RED", "GOLD"]}),
        (["--node-id", "2", "--direction", "IN"], {"node_id": "2", "direction": "IN"}),
        (["--link-category-ids", "100,101"], {"link_category_ids": ["100", "101"]}),
    ],
    ids=["one", "list", "repeated", "two", "ids"],
)
def test_filter_options_select_calls(run, sandbox, options, filters):
    """Given filter options, when calls are read, then they are those that the endpoint selects."""
    expected = sandbox.ids(START, END, **filters)
    assert expected
    assert call_ids(run("calls", START, END, *options).stdout) == expected


def test_ids_may_be_separated_and_repeated(run, sandbox):
    """Given ids by commas and by repeated options, one of them twice, when read, then each call is written once."""
    first, second, third = sandbox.ids()[5:8]
    result = run("calls", START, END, "--id", f"{first},{third}", "--id", second, "--id", first)
    assert call_ids(result.stdout) == [first, second, third]


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        ("all", Fields.ALL),
        ("id,talk_time_seconds", ("id", "talk_time_seconds")),
        ("DEFAULT, transcription_text", (*Fields.DEFAULT, "transcription_text")),
        ("call,categories", Fields.CALL + Fields.CATEGORIES),
    ],
    ids=["preset", "names", "both", "two presets"],
)
def test_fields_may_be_names_and_presets(run, sandbox, value, fields):
    """Given names and presets, when calls are read, then exactly these fields are written."""
    result = run("calls", START, "2024-01-03", "--fields", value)
    assert parse_lines(result.stdout) == sandbox.rows(START, "2024-01-03", fields=fields)


def test_order_and_limit(run, sandbox):
    """Given a descending order and a limit, when calls are read, then the latest ones are written."""
    result = run("calls", START, END, "--order", "call_start_DESC", "--limit", 3)
    assert call_ids(result.stdout) == sandbox.ids()[:-4:-1]


def test_date_constant_replaces_both_dates(run):
    """Given YESTERDAY, when there are no calls, then nothing is written; with START it is a usage error."""
    result = run("calls", "--date-constant", "yesterday")
    assert (result.exit_code, result.stdout) == (0, "")
    assert run("calls", START, "--date-constant", "YESTERDAY").exit_code == 2


def test_csv_has_a_column_per_requested_key(run, sandbox):
    """Given plain and nested fields, when written as CSV, then columns are named as in responses, nested ones JSON."""
    fields = "id,talk_time_seconds,has_recording,tag_text,tag_colour,link_category_label,call_outcomes"
    result = run("calls", START, END, "--format", "csv", "--fields", fields)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    expected = sandbox.rows(START, END, fields=fields.split(","))
    assert list(rows[0]) == ["id", "talk_time_sec", "has_recording", "tags", "categories", "call_outcomes"]
    assert [int(row["id"]) for row in rows] == [row["id"] for row in expected]
    assert [row["talk_time_sec"] for row in rows] == [str(row["talk_time_sec"]) for row in expected]
    for name in ("tags", "categories", "call_outcomes"):
        assert [json.loads(row[name]) for row in rows] == [row[name] for row in expected]


def test_csv_escapes_formulas(run):
    """Given a name that a spreadsheet would evaluate, when written as CSV, then it is escaped."""
    with closing(Sandbox(calls=0, start=START, end=END)) as sandbox, sandbox.serve() as url:
        sandbox.add([{"call_start": f"{START} 10:00:00", "node_name": "=1+1", "link_name": "plain"}])
        options = ("--format", "csv", "--fields", "node_name,link_name")
        result = run("calls", START, END, *options, env={"IOVOX_URL": url})
    assert result.stdout.splitlines() == ["node_name,link_name", "'=1+1,plain"]


def test_json_lines_are_valid_utf_8_documents(run):
    """Given all fields, when written, then a strict decoder accepts each line."""
    result = run("calls", START, END, "--fields", "all")
    decode = msgspec.json.Decoder(dict).decode
    assert len([decode(line) for line in result.stdout_bytes.splitlines()]) == 600


def test_skipped_records_are_reported(run, sandbox, monkeypatch):
    """Given a stream that has skipped records, when it ends, then stderr says how many."""
    import attrs

    from iovox_async import CallStream

    stats = CallStream.stats.fget
    monkeypatch.setattr(CallStream, "stats", property(lambda self: attrs.evolve(stats(self), skipped=2)))
    assert run("calls", START, START).stderr == "2 records skipped: they could not be decoded.\n"


# Files.


def test_output_file_contains_all_calls(run, sandbox, tmp_path):
    """Given -o FILE, when the run succeeds, then the file has all calls and no other file is left."""
    path = tmp_path / "calls.jsonl"
    result = run("calls", START, END, "-o", path)
    assert (result.exit_code, result.stdout) == (0, "")
    assert call_ids(path.read_text()) == sandbox.ids()
    assert [*tmp_path.iterdir()] == [path]


def test_output_file_name_selects_csv(run, tmp_path):
    """Given a FILE that ends in .csv, when written, then it is CSV, unless --format says otherwise."""
    path = tmp_path / "calls.csv"
    assert run("calls", START, START, "-o", path).exit_code == 0
    assert path.read_text().startswith("id,call_start,")
    assert run("calls", START, START, "-o", path, "--format", "jsonl").exit_code == 0
    assert path.read_text().startswith('{"id":')


def test_format_allows_any_ending(run, tmp_path):
    """Given a FILE whose ending selects no format, when --format does, then it is written, and compressed by its ending."""
    path = tmp_path / "calls.txt"
    assert run("calls", START, START, "-o", path).exit_code == 2
    assert run("calls", START, START, "-o", path, "--format", "table").exit_code == 0
    assert path.read_text().split()[:2] == ["id", "call_start"]
    path = tmp_path / "calls.txt.gz"
    assert run("calls", START, START, "-o", path, "--format", "csv").exit_code == 0
    assert gzip.decompress(path.read_bytes()).startswith(b"id,call_start,")


@pytest.mark.parametrize("ending", ["jsonl", "csv.gz", "jsonl.zst", "parquet", "arrow"])
def test_failed_run_keeps_the_old_file_and_is_resumed(run, sandbox, faults, tmp_path, ending):
    """Given a FILE, when a run fails, then it is unchanged, and the printed command makes the file of a whole run."""
    path, whole = tmp_path / f"calls.{ending}", tmp_path / f"whole.{ending}"
    path.write_text("yesterday's")
    faults(fail_after=6, kinds="403")
    args = ("calls", START, END, "--page-size", 50, "--concurrency", 1, "--fields", "id,call_start,node_name")
    first = run(*args, "-o", path)
    assert first.exit_code == 3
    assert path.read_text() == "yesterday's"
    faults()
    if ending == "jsonl":
        refused = run(*args, "-o", path, "--resume", "--limit", 1)
        assert refused.exit_code == 2
        assert re.search(r"--limit must be at least \d+, got 1: so many calls", refused.stderr)
    rest = run(*resume_arguments(first.stderr))
    assert (rest.exit_code, rest.stderr) == (0, "")
    assert run(*args, "-o", whole).exit_code == 0
    assert read_rows(path) == read_rows(whole)
    assert len(read_rows(path)) == 600 + (ending == "csv.gz")
    assert sorted(tmp_path.iterdir()) == [path, whole]


@pytest.mark.parametrize("ending", ["csv.gz", "arrow"])
def test_file_is_continued_however_often_it_fails(run, sandbox, faults, tmp_path, ending):
    """Given an unfinished file, when runs that continue it fail, at once and later, or are killed, then nothing is lost, up to --limit."""
    path, limit = tmp_path / f"calls.{ending}", 500
    fields = "id,call_start,node_name"
    args = ("calls", START, END, "--page-size", 50, "--concurrency", 1, "--fields", fields, "--limit", limit)
    args += ("-o", path)
    faults(fail_after=4, kinds="403")
    written = [first := run(*args)]
    for fail_after in (0, 3):
        if ending != "arrow":
            # A run that was killed while it continued the file has left what it wrote.
            unfinished = next(file for file in tmp_path.iterdir() if file.suffix == ".part")
            unfinished.write_bytes(unfinished.read_bytes() + b"a part of a page")
        faults(fail_after=fail_after, kinds="403")
        written.append(run(*resume_arguments(written[-1].stderr)))
        assert written[-1].exit_code == 3
    counts = [int(re.search(r"unfinished: (\d+) calls written", result.stderr)[1]) for result in written]
    assert 0 < counts[0] == counts[1] < counts[2] < limit
    faults()
    other = run(*("node_name,id,call_start" if arg == fields else arg for arg in args), "--resume")
    assert (other.exit_code, "is of another run" in other.stderr) == (2, True)
    assert run(*resume_arguments(first.stderr)).exit_code == 0
    rows = read_rows(path)[ending == "csv.gz" :]
    ids = [int(row.split(b",")[0]) for row in rows] if ending == "csv.gz" else [row["id"] for row in rows]
    assert ids == sandbox.ids()[:limit]
    assert [*tmp_path.iterdir()] == [path]


def test_unfinished_file_is_continued_by_one_run(run, faults, tmp_path):
    """Given a run that continues an unfinished file, when another one would, then it is refused, and harms nothing."""
    path = tmp_path / "calls.jsonl"
    faults(fail_after=4, kinds="403")
    first = run("calls", START, END, "--page-size", 50, "--concurrency", 1, "-o", path)
    faults()
    unfinished = next(file for file in tmp_path.iterdir() if file.suffix == ".part")
    before = unfinished.read_bytes()
    with unfinished.open("r+b") as other:
        lock_file(other)
        refused = run(*resume_arguments(first.stderr))
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: Another run continues the unfinished ")
    assert unfinished.read_bytes() == before
    assert run(*resume_arguments(first.stderr)).exit_code == 0
    assert len(read_rows(path)) == 600


def read_rows(path):
    """The calls of a file of any format, as a list of what its reader gives."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".arrow":
        return pa.ipc.open_file(path).read_all().to_pylist()
    compression = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
    with pa.input_stream(str(path), compression=compression) as stream:
        return stream.read().splitlines()


@pytest.mark.parametrize(
    ("name", "start_of_data"),
    [("A.CSV", b"id,"), ("a.tsv", b"id\t"), ("a.JSONL", b'{"id'), ("a.parquet", b"PAR1"), ("a", b'{"id')],
)
def test_ending_selects_the_format(run, tmp_path, name, start_of_data):
    """Given a FILE in any case, when written, then its ending selects the format."""
    assert run("calls", START, START, "-o", tmp_path / name).exit_code == 0
    assert (tmp_path / name).read_bytes().startswith(start_of_data)


@pytest.mark.parametrize("name", ["x.xlsx", "x.txt", "x.csv.bz2", "x.gz"])
def test_another_ending_is_refused_with_the_list(run, sandbox, tmp_path, name):
    """Given another ending, when the command runs, then nothing is sent or written, and the error lists the endings."""
    result = run("calls", START, START, "-o", tmp_path / name)
    assert result.exit_code == 2
    for ending in (".parquet", ".arrow", ".csv", ".tsv", ".jsonl", ".gz", ".zst"):
        assert ending in result.stderr
    assert (sandbox.stats.requests, [*tmp_path.iterdir()]) == (0, [])


def test_arrow_in_a_pipe_is_a_stream(run, sandbox):
    """Given --format arrow without a file, when read as a stream, then it has all calls, and the columns in --columns."""
    result = run("calls", START, END, "--format", "arrow", "--columns", "id,node_name")
    table = pa.ipc.open_stream(result.stdout_bytes).read_all()
    assert table["id"].to_pylist() == sandbox.ids()
    assert table.column_names == ["id", "node_name", "extra"]


def test_excel_keeps_phone_numbers_as_text(run, sandbox):
    """Given --excel, when written, then a byte-order mark comes first, and each phone number is a text of its digits."""
    result = run("calls", START, START, "--excel", "--columns", "id,call_origin,talk_time")
    lines = result.stdout_bytes.decode("utf-8-sig").splitlines()
    assert result.stdout_bytes.startswith(b"\xef\xbb\xbf")
    row = sandbox.rows(START, START)[0]
    assert next(csv.reader(lines[1:2])) == [str(row["id"]), f'="{row["call_origin"]}"', row["talk_time"]]


def test_columns_are_among_the_fields(run):
    """Given columns and fields, when a column is no field, then the run is refused; else only the columns are written."""
    columns = ("calls", START, START, "--columns", "call_result,id", "--limit", 1, "--fields")
    result = run(*columns, "id,call_start")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--columns must be among --fields, got call_result. Leave --fields out." in result.stderr
    for form in ("jsonl", "csv"):
        output = run(*columns, "default", "--format", form).stdout
        assert "call_result" in output
        assert "call_start" not in output


def test_table_has_aligned_columns(run, sandbox):
    """Given --format table outside a terminal, when written, then every column begins below its title and none is cut."""
    lines = run(
        "calls", START, START, "--format", "table", "--columns", "id,call_start,node_name"
    ).stdout.splitlines()
    row = sandbox.rows(START, START)[0]
    assert lines[0].split() == ["id", "call_start", "node_name"]
    assert lines[1] == f"{row['id']}  {row['call_start']}  {row['node_name']}"
    assert len(lines) == 1 + len(sandbox.ids(START, START))


def test_no_calls_are_reported(run):
    """Given a filter that no call matches, when read, then stderr says which range and filter, and how to see the values."""
    result = run("calls", START, START, "--call-result", "MISSED")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == (
        f"0 calls between {START} 00:00:00 and {START} 23:59:59 (call_result=MISSED). "
        f"iovox summary {START} {START} --by call_result shows which values there are.\n"
    )
    quiet = run("calls", START, START, "--call-result", "MISSED", "--quiet")
    assert (quiet.exit_code, quiet.stderr) == (0, "")


def test_output_file_keeps_link_and_mode(run, tmp_path):
    """Given a link to a private file, when written through it, then the link stays and the file stays private."""
    target, link = tmp_path / "target.jsonl", tmp_path / "link.jsonl"
    target.write_text("")
    target.chmod(0o600)
    link.symlink_to(target)
    assert run("calls", START, START, "-o", link).exit_code == 0
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.stat().st_size


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in the file system")
def test_named_pipe_is_written_in_place(run, tmp_path):
    """Given a named pipe as FILE, when written, then its reader gets all calls and the pipe is not replaced."""
    pipe, lines = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: lines.extend(pipe.read_text().splitlines()), daemon=True)
    reader.start()
    result = run("calls", START, END, "-o", pipe)
    reader.join(60)
    assert (result.exit_code, result.stderr, len(lines)) == (0, "", 600)
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("path", "exit_code", "message"),
    [("no/such/directory/x", 1, "Cannot write"), (".", 2, "is a directory")],
    ids=["no directory", "a directory"],
)
def test_unwritable_output_file_is_named(run, tmp_path, monkeypatch, path, exit_code, message):
    """Given a FILE that cannot be written, when the command runs, then the error names it, without a traceback."""
    monkeypatch.chdir(tmp_path)
    result = run("calls", START, END, "-o", path)
    assert result.exit_code == exit_code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


# Failures.


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("order", ["call_start_ASC", "call_start_DESC"])
def test_failed_run_prints_the_command_that_writes_the_rest(run, faults, form, order):
    """Given a failure after some output, when the printed command runs, then both outputs are the whole, to the byte."""
    args = ("calls", START, END, "--format", form, "--order", order, "--direction", "IN", "--page-size", 40)
    whole = run(*args)
    faults(fail_after=5, kinds="403")
    first = run(*args)
    assert first.exit_code == 3
    assert len(first.stderr.splitlines()) == 2
    faults()
    rest = run(*resume_arguments(first.stderr))
    assert rest.exit_code == 0
    assert first.stdout
    assert first.stdout + rest.stdout == whole.stdout


def test_limit_counts_over_both_runs(run, sandbox, faults):
    """Given --limit and a failure, when the printed command runs, then both runs together write that many calls."""
    faults(fail_after=4, kinds="403")
    first = run("calls", START, END, "--limit=400", "--page-size", 40)
    faults()
    rest = run(*resume_arguments(first.stderr))
    assert call_ids(first.stdout) + call_ids(rest.stdout) == sandbox.ids()[:400]


def test_failure_without_output_is_one_line(run, faults):
    """Given a failure before any output, when the run ends, then there is one error line and exit code 1."""
    faults(fail_after=0, kinds="403")
    result = run("calls", START, END)
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1


def test_failure_by_page_numbers_cannot_be_continued(run, faults):
    """Given an order that is read by page numbers, when the run fails, then no command is printed; exit code 1."""
    faults(fail_after=3, kinds="403")
    result = run("calls", START, END, "--order", "talk_time_ASC", "--page-size", 40, "--concurrency", 1)
    assert result.exit_code == 1
    assert "--resume" not in result.stderr


def test_printed_command_can_be_pasted(run, faults):
    """Given arguments with spaces, when a run fails, then the printed command quotes them for a shell."""
    faults(fail_after=3, kinds="403")
    result = run("calls", f"{START} 00:00", END, "--page-size", 40, "--concurrency", 1)
    assert shlex.split(result.stderr.partition("Continue with: ")[2])[:3] == [
        *("iovox", "calls", f"{START} 00:00")
    ]
