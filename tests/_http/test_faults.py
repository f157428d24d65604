"""The faults a client of this endpoint meets, as one table: what happens here, and the test that proves it."""

import ast
import functools
import json
from pathlib import Path
from urllib.parse import parse_qs

import attrs
import httpx
import pytest
from support.faults import RawServer, answering, http_answer, nothing_left

from iovox_async import BadRequestError, DecodeError, Fields, RecordError
from iovox_async._parsing.splitter import PAGE_BYTES
from iovox_async.sandbox import Sandbox

HERE = Path(__file__).parent
START, END = "2024-01-01", "2024-01-10"


@attrs.frozen
class Fault:
    """One fault: its number, what goes wrong, what happens here, and the tests (or why there is none)."""

    number: int
    what: str
    happens: str
    tests: tuple[str, ...] = ()
    reason: str = ""


def fault(number, what, happens, *tests, reason=""):
    return Fault(number, what, happens, tests, reason)


WIRE = "test_fault_wire.py::test_"
SWEEP = "test_fault_sweeps.py::test_"
EVERY = SWEEP + "a_fault_at_every_request_once_or_for_good"
EXCHANGE = "test_exchange.py::test_every_answer_that_is_no_page_becomes_a_typed_error"
EXACT = "test_exactly_once.py::test_no_stable_call_is_lost_or_repeated_while_calls_come_and_go"
THEOREM = "test_plan_windows.py::test_every_call_that_stays_comes_exactly_once_while_others_come_and_go"
HYGIENE = "test_loop_hygiene.py::test_"
PROGRAM = HYGIENE + "a_whole_program_runs_the_same_and_without_a_complaint"
CANCEL = "test_cancellation.py::test_"
STREAM = "test_stream.py::test_"
SESSION = "test_session.py::test_"
HERE_ = "test_faults.py::test_"
CRASH = "test_backfill_crash.py::test_"

FAULTS = (
    # The network and HTTP.
    fault(
        1,
        "no address, connection refused",
        "tried again, then TransportError",
        WIRE + "a_refused_connection_is_tried_again_and_then_named",
        WIRE + "a_name_that_does_not_resolve_is_tried_again_and_then_named",
        WIRE + "a_server_that_comes_up_late_is_reached",
    ),
    fault(
        2,
        "certificate self-signed, expired, of another host",
        "TLSError after one attempt; no request is written",
        WIRE + "a_certificate_that_cannot_be_trusted_is_tried_once_and_sees_no_key",
        WIRE + "a_trusted_certificate_is_read_through",
    ),
    fault(
        3, "TLS handshake broken off", "tried again", WIRE + "a_handshake_that_is_broken_off_is_tried_again"
    ),
    fault(
        4,
        "idle connection closed by the server",
        "sent again at once; no wait, no attempt, no budget",
        WIRE + "an_idle_connection_that_the_server_closed_costs_no_attempt_and_no_wait",
        "test_pacing.py::test_a_stale_connection_is_tried_again_at_once_and_not_charged",
    ),
    fault(
        5,
        "reset or end in the middle of a body",
        "the partial page is dropped and asked again",
        WIRE + "a_cut_anywhere_is_noticed_and_asked_again",
        EVERY,
    ),
    fault(
        6,
        "body without a length, cut",
        "its JSON does not end: asked again, halved, then DecodeError, which shows no bytes (they are personal data)",
        WIRE + "a_cut_anywhere_is_noticed_and_asked_again",
        "test_wire.py::test_a_large_page_that_is_cut_is_never_taken_for_whole",
        "test_wire.py::test_no_error_shows_what_a_page_holds",
    ),
    fault(
        7,
        "gzip cut, without trailer, wrong checksum",
        "asked again",
        WIRE + "a_cut_anywhere_is_noticed_and_asked_again",
        "test_wire.py::test_gzip_that_is_cut_at_any_byte_is_damaged",
    ),
    fault(8, "gzip of several members", "all are read", WIRE + "every_member_of_a_gzip_body_is_read"),
    fault(
        9,
        "decompression bomb, page too large",
        "stopped while it comes; the window is halved, a page is DecodeError",
        WIRE + "a_bomb_is_stopped_at_the_cap_and_not_asked_for_again",
        WIRE + "a_page_too_large_is_asked_for_in_halves",
    ),
    fault(
        10,
        "unknown or chained encoding",
        "DecodeError at once",
        WIRE + "an_encoding_that_was_not_offered_is_refused_at_once",
    ),
    fault(
        11,
        "a byte now and then",
        "a wall-clock deadline ends the attempt",
        CANCEL + "a_deadline_stops_a_server_that_drips",
    ),
    fault(
        12,
        "accepted, never answered",
        "RequestTimeout, tried again, halved",
        WIRE + "a_server_that_accepts_and_says_nothing_meets_the_deadline",
        EVERY,
    ),
    fault(
        13,
        "200 KB of headers, flood of 100 Continue, no HTTP",
        "tried once more, then TransportError; a flood ends at the deadline",
        WIRE + "what_is_not_http_is_tried_once_more_and_then_raised",
        WIRE + "a_flood_of_100_continue_is_read_over_or_ends_at_the_deadline",
    ),
    fault(
        14,
        "redirect",
        "UnexpectedRedirectError with the origin only; never followed",
        "test_exchange.py::test_a_redirect_is_told_by_its_origin_only_and_never_followed",
        "test_secrets.py::test_a_foreign_host_receives_nothing",
    ),
    fault(15, "200 with a login page", "tried once more, then DecodeError", EXCHANGE, EVERY),
    fault(
        16,
        "200 without a body; 204, null, {}",
        "the first is tried again; the others are no calls",
        EXCHANGE,
        "test_exchange.py::test_every_form_of_nothing_is_no_calls",
        "test_exchange.py::test_204_is_no_calls",
    ),
    fault(
        17,
        "proxy answers 407 or 502, SOCKS refuses",
        "407 is BadRequestError at once, the others are tried again",
        WIRE + "a_proxy_that_refuses_is_raised_and_one_that_fails_is_tried_again",
        WIRE + "a_socks_proxy_that_refuses_is_a_transport_error",
        WIRE + "a_socks_proxy_carries_the_session",
    ),
    fault(
        18,
        "HTTP/2 GOAWAY",
        "cannot happen",
        reason="HTTP/1.1 only is spoken: http2 is off in httpx by default.",
    ),
    # Answers of the endpoint.
    fault(
        19,
        "400 for a parameter",
        "BadRequestError with all messages, after one attempt; most are refused before they are sent",
        EXCHANGE,
        "test_exchange.py::test_the_messages_of_an_error_body_are_kept_each",
        "test_query.py::test_what_the_endpoint_refuses_is_refused_before_it_is_sent",
    ),
    fault(
        20,
        "400 because a window is too large",
        "BadRequestError with the message",
        EXCHANGE,
        reason="The endpoint's table of errors has no such 400, so there is no text to tell it by; it is not halved.",
    ),
    fault(
        21,
        "401, 403",
        "raised at once; nothing more is sent for half a minute, whoever asks",
        SWEEP + "a_refused_account_is_left_alone_at_once",
        "test_pacing.py::test_a_refused_account_stops_everything_for_a_while",
    ),
    fault(
        22,
        "404, 405, 410, 415",
        "BadRequestError that says to check base_url",
        HERE_ + "a_wrong_address_is_told_without_the_question",
        EXCHANGE,
    ),
    fault(23, "408, 425, 429, 500, 502-504, 520-529", "tried again", EXCHANGE, EVERY),
    fault(
        24,
        "Retry-After of any form",
        "waited, up to the policy's maximum; longer is raised with its length; what cannot be read is ignored",
        SWEEP + "what_the_server_asks_to_wait_is_waited_if_it_can_be_read",
        SWEEP + "a_wait_longer_than_allowed_is_handed_to_the_caller_with_its_length",
        "test_pacing.py::test_any_retry_after_is_a_wait_or_nothing",
    ),
    fault(
        25,
        "500 that repeats for one window",
        "the window is halved before it is given up, and the size remembered",
        SWEEP + "windows_that_keep_failing_are_halved_and_the_size_is_remembered",
    ),
    fault(
        26,
        "error body as XML, JSON, HTML, 10 MB, without an end",
        "read up to 64 KB and 5 seconds; the status counts",
        "test_wire.py::test_an_error_body_is_read_as_what_it_is",
        WIRE + "an_error_is_named_by_its_status_though_its_body_has_no_end",
    ),
    fault(
        27,
        "200 that is an error object, a string, a number",
        "DecodeError; one call's object is a list of one",
        EXCHANGE,
        "test_exchange.py::test_a_single_calls_object_is_a_list_of_one",
    ),
    fault(
        28,
        "a cap lower than asked, unsaid",
        "learned; a short page alone ends nothing",
        STREAM + "both_readings_of_the_end_and_a_lower_cap_give_the_same_calls",
        EXACT,
    ),
    fault(
        29,
        "the server ignores page",
        "PagingError, never a loop",
        STREAM + "a_server_that_ignores_page_or_dates_is_an_error_and_not_a_loop",
        "test_plan_pages.py::test_a_server_that_ignores_page_is_found_out",
    ),
    fault(
        30,
        "the server ignores order or dates",
        "PagingError that names the way out",
        STREAM + "a_server_that_ignores_page_or_dates_is_an_error_and_not_a_loop",
        "test_plan_windows.py::test_a_server_that_ignores_a_parameter_is_found_out",
    ),
    fault(
        31,
        "more calls in a second than a page holds",
        "read by page numbers until two passes agree, or PagingError",
        "test_exactly_once.py::test_a_second_fuller_than_a_page_is_read_whole",
        "test_plan_second.py::test_a_second_is_whole_or_given_up",
    ),
    fault(
        32,
        "calls of the very second between two windows",
        "both ask for it, one owns it",
        STREAM + "both_readings_of_the_end_and_a_lower_cap_give_the_same_calls",
        THEOREM,
    ),
    fault(33, "starts within a second", "windows share their boundary second", THEOREM),
    fault(
        34,
        "new calls while reading",
        "the end is fixed before the first request; stats.final_until says what may still change",
        SESSION + "dates_left_out_mean_this_month_until_now_and_are_fixed_at_once",
        EXACT,
    ),
    fault(
        35,
        "late calls, late transcripts",
        "follow reads a look-back again; changed calls come again on request",
        "test_follow.py::test_new_calls_come_once_also_those_that_arrive_late",
        "test_follow.py::test_changed_calls_come_again_when_asked_for",
    ),
    fault(
        36, "calls deleted while reading", "no other call is lost: no page numbers are used", EXACT, THEOREM
    ),
    fault(
        37,
        "an id twice in one page",
        "the last is kept, and counted",
        HERE_ + "a_call_that_an_answer_lists_twice_comes_once_and_is_counted",
    ),
    fault(
        38,
        "no id",
        "RecordError, or skipped and counted; never taken for another",
        HERE_ + "a_call_without_an_id_is_no_call_and_costs_no_other",
        "test_plan_pages.py::test_pages_without_ids_are_not_taken_for_one_another",
    ),
    fault(
        39,
        "the clocks differ",
        "no boundary is taken from a moving clock: the end is fixed, and follow reads a day beyond now",
        SESSION + "dates_left_out_mean_this_month_until_now_and_are_fixed_at_once",
        "test_follow.py::test_new_calls_come_once_also_those_that_arrive_late",
        reason="A Date header has a zone and the endpoint's dates have none, so it says nothing without timezone=.",
    ),
    fault(
        40,
        "clocks set back or forward",
        "the server's dates are its own; instants are covered whole",
        "test_dates.py::test_no_second_of_an_aware_range_is_left_out",
        THEOREM,
    ),
    fault(
        41,
        "dates left out mean this month",
        "a stream always sends both",
        SESSION + "dates_left_out_mean_this_month_until_now_and_are_fixed_at_once",
        HERE_ + "a_stream_always_sends_both_dates",
    ),
    fault(
        42,
        "unknown, missing, bent values",
        "read by rule and counted, kept in extra, or one RecordError",
        "test_convert.py::test_habits_of_the_server_are_read_by_rule_and_counted",
        "test_convert.py::test_any_json_value_in_any_field_is_read_or_refused",
    ),
    fault(
        43,
        "NaN, 1e999, surrogates, 5,000 digits, deep nesting, BOM, latin-1",
        "DecodeError or RecordError, nothing else",
        "test_wire.py::test_any_bytes_end_in_a_page_or_in_one_error",
        "test_fuzz_errors.py::test_any_answer_ends_in_calls_or_in_an_error_of_ours",
        "test_fuzz_errors.py::test_any_bytes_on_the_wire_end_in_calls_or_in_an_error_of_ours",
    ),
    fault(
        44,
        "rows of 50 KB",
        "the rows of a page follow their bytes",
        HERE_ + "the_rows_of_a_page_follow_their_bytes",
        STREAM + "at_most_twice_the_concurrency_and_one_page_are_held",
    ),
    # Processes and concurrency.
    fault(
        45,
        "cancelled at any await",
        "no slot, task or socket is lost; the server is let go",
        CANCEL + "five_thousand_natively_cancelled_pulls_leave_the_session_working",
        SWEEP + "cancelled_at_every_suspension_the_session_works_on",
        CANCEL + "cancelled_at_every_turn_of_the_loop_the_session_works_on",
    ),
    fault(46, "break", "all requests end", STREAM + "leaving_early_leaves_no_task_and_no_request"),
    fault(
        47,
        "a slow reader",
        "stops the requests; at most 2 x concurrency + 1 pages are held",
        STREAM + "at_most_twice_the_concurrency_and_one_page_are_held",
        STREAM + "a_slow_reader_stops_the_requests",
    ),
    fault(
        48, "the reader raises", "its own error, bare", STREAM + "leaving_early_leaves_no_task_and_no_request"
    ),
    fault(
        49,
        "two requests fail together",
        "the first is raised, another kind noted in it",
        SWEEP + "two_failures_at_once_lose_neither",
    ),
    fault(
        50,
        "two consumers",
        "in turn: fine; at once: RuntimeError; in two ways: SessionError",
        HYGIENE + "two_consumers_of_one_stream_at_once_are_told_apart",
        STREAM + "a_stream_is_read_in_one_way_only",
    ),
    fault(
        51,
        "used after close, in another loop, after fork",
        "SessionError that names the mistake",
        SESSION + "a_session_belongs_to_one_loop_and_one_process",
        STREAM + "a_closed_session_says_so",
        HYGIENE + "closing_a_session_ends_its_streams_with_a_clear_error",
    ),
    fault(
        52,
        "httpx's pool loses slots",
        "it cannot: no native cancellation reaches it",
        CANCEL + "five_thousand_natively_cancelled_pulls_leave_the_session_working",
    ),
    fault(
        53,
        "hundreds of callers",
        "first come, first served; no pool timeout",
        WIRE + "hundreds_of_callers_share_a_few_slots_in_the_order_of_their_arrival",
        "test_pacing.py::test_slots_are_given_in_the_order_of_asking",
    ),
    fault(
        54,
        "outage",
        "retries stay within 20 % of the requests plus 20; one bare error within total",
        SWEEP + "an_outage_of_hours_costs_many_callers_no_storm",
        SWEEP + "a_server_that_is_down_ends_in_one_bare_error_without_a_storm",
        "test_pacing.py::test_attempts_are_bounded_under_any_faults",
    ),
    fault(
        55,
        "Ctrl-C, SIGTERM",
        "the checkpoint holds; the exit code says unfinished",
        "test_backfill_cli.py::test_ctrl_c_ends_it_at_once_with_the_line_that_goes_on",
        CRASH + "cancelled_at_every_request",
    ),
    fault(56, "kill -9, power cut", "resumed to the same set", CRASH + "killed_at_random_times"),
    fault(
        57,
        "full disk, I/O error",
        "an error of ours; what was finished stays",
        CRASH + "at_every_change_of_the_disk",
        "test_sinks.py::TestStores::test_a_full_disk_is_an_error_of_ours_wherever_it_strikes",
    ),
    fault(
        58,
        "two processes on one job",
        "BackfillLockedError; the lock ends with its process",
        "test_backfill.py::TestOneJobAFolder::test_a_second_process_is_refused",
        "test_sinks.py::TestLocks::test_a_lock_ends_with_its_process_however_that_ends",
    ),
    fault(
        59,
        "damaged, newer or foreign checkpoint",
        "an error with the cure; never a silent new start",
        "test_backfill.py::TestDamage::test_damage_is_named_and_repair_reads_just_what_it_covers",
        "test_backfill.py::TestOneJobAFolder::test_another_job_is_refused_with_what_differs",
        "test_backfill.py::TestOneJobAFolder::test_a_newer_form_is_refused_with_a_cure",
    ),
    fault(
        60, "the wall clock jumps", "nothing: deadlines stand on another", HYGIENE + "the_wall_clock_may_jump"
    ),
    fault(61, "-O, -W error, asyncio debug, uvloop", "the same, without a warning", PROGRAM),
    # Secrets and input.
    fault(
        62,
        "key with a line break, NUL, blank, non-ASCII, empty",
        "refused unseen",
        SESSION + "a_wrong_setting_is_refused_with_its_name_and_without_the_key",
    ),
    fault(
        63,
        "the key in a repr, pickle, log, traceback, error",
        "it is in none",
        SESSION + "the_key_appears_in_no_view_of_a_session",
        "test_secrets.py::test_no_fault_brings_the_key_to_light",
        "test_secrets.py::test_a_server_that_repeats_the_key_is_not_repeated",
    ),
    fault(
        64,
        "filter values with & # % and line breaks, long id lists",
        "encoded or refused; lists are split below 4 KiB",
        "test_query.py::test_anything_is_refused_or_sent_safely",
        "test_exchange.py::test_long_lists_of_ids_are_split_and_come_back_in_the_order_asked",
    ),
    fault(
        65,
        "base_url of http, with credentials, that only looks like this machine",
        "ConfigurationError",
        SESSION + "a_wrong_setting_is_refused_with_its_name_and_without_the_key",
        WIRE + "only_an_address_of_this_machine_is_loopback",
    ),
    fault(
        66,
        "hostile environment",
        'not looked at, unless proxy="environment"',
        SESSION + "a_proxy_comes_from_the_environment_only_when_asked_for",
        WIRE + "the_environment_cannot_choose_certificates_or_write_the_keys_of_connections",
        WIRE + "the_environment_s_proxy_is_used_as_other_programs_use_it",
    ),
    fault(
        67,
        "ids that are paths",
        "files are named after days, never after data",
        "test_backfill.py::TestRuns::test_a_range_becomes_one_file_a_day",
    ),
    fault(
        68,
        "formulas in CSV",
        "made harmless",
        "test_sinks.py::TestFormats::test_no_cell_is_a_formula",
    ),
)


@pytest.fixture(autouse=True)
async def _nothing_is_left():
    async with nothing_left():
        yield


@functools.cache
def _names_in(name):
    """The tests of a module, as pytest names them."""
    found = set()
    for node in ast.parse((HERE / name).read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{one.name}" for one in node.body if hasattr(one, "name")}
        elif hasattr(node, "name"):
            found.add(node.name)
    return found


def test_the_table_has_every_fault_once_and_in_order():
    """All 68 of the list it was made from."""
    assert [one.number for one in FAULTS] == list(range(1, 69))


@pytest.mark.parametrize("one", FAULTS, ids=lambda one: f"{one.number}-{one.what}")
def test_every_fault_has_a_test_that_exists_or_a_reason(one):
    """A promise without a test is none."""
    assert one.what
    assert one.happens
    assert one.tests or one.reason
    for node in one.tests:
        name, _, test = node.partition("::")
        assert test in _names_in(name), f"{node} does not exist"


# What no other module has.


class Listing(httpx.AsyncBaseTransport):
    """An endpoint that answers these rows, filtered by dates and ordered, as they are."""

    def __init__(self, rows):
        self.rows, self.asked = rows, []

    async def handle_async_request(self, request):
        asked = {name: values[0] for name, values in parse_qs(request.url.query.decode()).items()}
        self.asked.append(asked)
        rows = sorted(
            (row for row in self.rows if asked["start_date"] <= row["call_start"] <= asked["end_date"]),
            key=lambda row: row["call_start"],
            reverse=asked["order"] == "call_start_DESC",
        )
        size = int(asked["limit"])
        begin = size * (int(asked["page"]) - 1)
        body = json.dumps(rows[begin : begin + size]).encode()
        return httpx.Response(200, stream=httpx.ByteStream(body))


def row(number, second, **more):
    return {"id": number, "call_start": f"2024-01-02 10:00:{second:02}", **more}


@pytest.mark.fault(37)
@pytest.mark.parametrize("order", ["call_start_ASC", "call_start_DESC"])
async def test_a_call_that_an_answer_lists_twice_comes_once_and_is_counted(order, open_session):
    """The last of them counts; its neighbours of the same second stay."""
    rows = [row(1, 1), row(2, 2, node_name="old"), row(3, 2), row(2, 2, node_name="new"), row(4, 5)]
    transport = Listing(rows)
    async with open_session(transport=transport) as insights:
        stream = insights.stream(START, END, order=order)
        calls = await stream.collect()
    assert [call.id for call in calls] == ([1, 2, 3, 4] if order.endswith("ASC") else [4, 3, 2, 1])
    assert next(call.node_name for call in calls if call.id == 2) == "new"
    assert stream.stats.duplicates_dropped == 1
    assert stream.stats.calls == 4


@pytest.mark.fault(38)
@pytest.mark.parametrize("bad", [{"id": None}, {"id": ""}, {}], ids=["null", "empty", "missing"])
async def test_a_call_without_an_id_is_no_call_and_costs_no_other(bad, open_session):
    """Raised with its place, or left out and counted."""
    rows = [row(1, 1), {"call_start": "2024-01-02 10:00:02", **bad}, row(3, 3)]
    async with open_session(transport=Listing(rows)) as insights:
        with pytest.raises(RecordError) as caught:
            await insights.stream(START, END).collect()
        assert caught.value.index == 1
        stream = insights.stream(START, END, on_error="skip")
        assert [call.id for call in await stream.collect()] == [1, 3]
        assert stream.stats.skipped == 1


@pytest.mark.fault(44)
async def test_the_rows_of_a_page_follow_their_bytes(open_session):
    """Records of a few KB each: after the first small page no page is much larger than it should be."""
    sandbox = Sandbox(calls=3_000, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=2) as insights:
        async for _ in insights.stream(START, END, fields=Fields.ALL):
            pass
    row_bytes = sandbox.stats.bytes_received / sandbox.stats.rows
    limits = [int(parse_qs(request.query)["limit"][0]) for request in sandbox.requests]
    assert row_bytes > 1_000
    assert limits[0] == 250
    assert max(limits[1:]) * row_bytes < 1.3 * PAGE_BYTES


@pytest.mark.fault(41)
async def test_a_stream_always_sends_both_dates(open_session):
    """Whatever is left out: the endpoint would read this month, or today."""
    transport = Listing([])
    async with open_session(transport=transport) as insights:
        for dates in ((), (START,), (None, END)):
            assert await insights.stream(*dates).collect() == []
    assert all({"start_date", "end_date"} <= asked.keys() for asked in transport.asked)


@pytest.mark.fault(22)
async def test_a_wrong_address_is_told_without_the_question(open_session):
    """The cure, and neither query nor key."""
    async with RawServer(answering(http_answer(b"<html>Not Found</html>", b"404 Not Found"))) as server:
        async with open_session(server.base_url) as insights:
            with pytest.raises(BadRequestError, match="Check base_url") as caught:
                await insights.page(START, END, call_origin="447598455773")
    assert "447598455773" not in str(caught.value)
    assert "response_fields" not in str(caught.value)


async def test_a_page_of_another_form_is_told_by_its_form(open_session):
    """What came instead of calls is said in a word, and not shown."""
    async with RawServer(answering(http_answer(b"<html>Sign in, 447598455773</html>"))) as server:
        async with open_session(server.base_url) as insights:
            with pytest.raises(DecodeError, match=r"HTML.*check the address") as caught:
                await insights.page(START, END)
    assert "447598455773" not in str(caught.value)
