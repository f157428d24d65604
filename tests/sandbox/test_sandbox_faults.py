"""Every fault of the sandbox, seen with plain sockets and a plain client."""

import gzip
import json
import socket
import time
import zlib
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from iovox_async.errors import ConfigurationError, TransportError
from iovox_async.sandbox import FAULT_KINDS, Faults, Sandbox
from iovox_async.sandbox.faults import choose_delay, choose_fault

KNOWN = {"username": "demo", "secureKey": "demo-key"}
PATH = "/calls/insights?start_date=2024-01-01&end_date=2024-03-31"
EVERY = {"fail_after": 0}


@pytest.fixture(scope="module")
def sandbox():
    """50 calls, some of them in one second."""
    made = Sandbox(calls=30)
    made.add([{"call_start": "2024-02-01 10:00:00"}] * 20)
    yield made
    made.close()


@pytest.fixture(scope="module")
def base_url(sandbox):
    """Where they are served."""
    with sandbox.serve() as url:
        yield url


@pytest.fixture
def faults(sandbox):
    """Sets the faults, and counts requests from 1."""

    def set_(**options):
        sandbox.faults = Faults(**options)
        sandbox.reset_stats()

    yield set_
    sandbox.faults = Faults()


@pytest.fixture
def get(base_url, faults):
    """Asks a plain client, on a connection of its own."""

    def ask(path=PATH, **headers):
        return httpx.get(base_url + path, headers={**KNOWN, **headers})

    return ask


@pytest.fixture(scope="module")
def whole(sandbox, base_url):
    """The body of the answer without a fault."""
    return httpx.get(base_url + PATH, headers=KNOWN).content


def asked_raw(base_url, timeout=5.0, path=PATH):
    """A bare socket on which one request has been sent."""
    address = urlsplit(base_url)
    line = socket.create_connection((address.hostname, address.port), timeout=timeout)
    lines = [f"GET {address.path}{path} HTTP/1.1", f"host: {address.netloc}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in KNOWN.items()]
    line.sendall("\r\n".join([*lines, "", ""]).encode())
    return line


def ask_raw(base_url, timeout=5.0, path=PATH):
    """One request on a bare socket: the head, the bytes of the body, and how it ended."""
    with asked_raw(base_url, timeout, path) as line:
        got, end = b"", "closed"
        try:
            while data := line.recv(65_536):
                got += data
        except ConnectionResetError:
            end = "reset"
        except TimeoutError:
            end = "silent"
    head, _, body = got.partition(b"\r\n\r\n")
    return head.decode().lower(), body, end


def until(condition):
    """Waits, briefly, for what another thread is about to do."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# --------------------------------------------------------------------------------------------------- kinds


@pytest.mark.parametrize("status", [int(kind) for kind in FAULT_KINDS if kind.isdigit()])
def test_a_status(status, faults, get, sandbox):
    """With its words in an error body."""
    faults(kinds=str(status), retry_after=7, **EVERY)
    answer = get()
    assert answer.status_code == status
    assert f'<error status="{status}">' in answer.text
    assert answer.headers.get("retry-after") == ("7" if status in {429, 503} else None)
    assert ("location" in answer.headers) == (status == 302)
    assert (sandbox.stats.failed, sandbox.stats.answered, sandbox.requests[0].outcome) == (1, 0, str(status))


@pytest.mark.parametrize("retry_after", ["Wed, 21 Oct 2026 07:28:00 GMT", "soon", 0, 1.5, -1])
def test_retry_after_is_written_as_given(retry_after, faults, get):
    """Seconds, dates, nonsense."""
    faults(kinds="429", retry_after=retry_after, **EVERY)
    assert get().headers["retry-after"] == str(retry_after)


def test_retry_after_may_be_missing(faults, get):
    """The default."""
    faults(kinds="503", **EVERY)
    assert "retry-after" not in get().headers


def test_a_redirect_goes_where_it_is_told(faults, get, base_url):
    """To another host, by default to one that does not exist."""
    faults(kinds="302", location="http://127.0.0.1:9/elsewhere", **EVERY)
    assert get().headers["location"] == "http://127.0.0.1:9/elsewhere"


def test_cut_breaks_the_promise_of_its_length(faults, base_url, whole):
    """Half the body, closed in good order."""
    faults(kinds="cut", **EVERY)
    head, body, end = ask_raw(base_url)
    assert f"content-length: {len(whole)}" in head
    assert (body, end) == (whole[: len(whole) // 2], "closed")


def test_cut_chunked_never_ends(faults, base_url, whole):
    """One chunk of half the body, and no last one."""
    faults(kinds="cut_chunked", **EVERY)
    head, body, end = ask_raw(base_url)
    half = whole[: len(whole) // 2]
    assert "transfer-encoding: chunked" in head
    assert (body, end) == (b"%x\r\n%b\r\n" % (len(half), half), "closed")


def test_cut_clean_looks_whole(faults, base_url, whole):
    """No length and no chunks: only the JSON tells."""
    faults(kinds="cut_clean", **EVERY)
    head, body, end = ask_raw(base_url)
    assert "content-length" not in head
    assert "transfer-encoding" not in head
    assert (body, end) == (whole[: len(whole) // 2], "closed")
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


@pytest.mark.parametrize(("kind", "end"), [("close", "closed"), ("reset", "reset")])
def test_the_connection_ends_before_the_first_byte(kind, end, faults, base_url):
    """In good order, or by reset."""
    faults(kinds=kind, **EVERY)
    assert ask_raw(base_url) == ("", b"", end)


def test_the_connection_is_reset_midway(faults, base_url, whole):
    """After half of the body has left, as much of it as arrives."""
    faults(kinds="reset_midway", **EVERY)
    _, body, end = ask_raw(base_url)
    assert end == "reset"
    assert whole.startswith(body)


def test_a_client_that_leaves_before_its_reset_harms_nothing(caplog):
    """There is nothing left to reset then, and the server has no error to tell of."""
    sandbox = Sandbox(calls=0, faults=Faults(kinds="reset_midway", **EVERY))
    # More than the network takes from a sender whose receiver does not read.
    sandbox.add([{"comments": [{"text": "x" * 20_000_000}]}])
    with sandbox.serve() as base_url:
        with asked_raw(base_url, path=PATH + "&response_fields=comment_text") as line:
            assert line.recv(12) == b"HTTP/1.1 200"
        until(lambda: not sandbox.stats.connections)
    assert caplog.records == []


@pytest.mark.parametrize(("kind", "share"), [("hang", 0), ("hang_midway", 0.5)])
def test_nothing_more_comes(kind, share, faults, base_url, whole, sandbox):
    """Until the client leaves, which is noticed at once."""
    faults(kinds=kind, **EVERY)
    head, body, end = ask_raw(base_url, timeout=0.1)
    assert (body, end) == (whole[: int(len(whole) * share)], "silent")
    assert bool(head) == bool(share)
    until(lambda: not sandbox.stats.active_requests)
    assert (sandbox.stats.abandoned, sandbox.stats.failed) == (1, 1)


def test_bytes_come_one_by_one(faults, base_url):
    """Each alone, with a pause before the next; in the end they would be whole."""
    faults(kinds="drip", drip_interval=0.002, **EVERY)
    head, body, end = ask_raw(base_url, path=PATH + "&limit=2&response_fields=id")
    assert f"content-length: {len(body)}" in head
    assert (len(json.loads(body)), end) == (2, "closed")


def test_a_dripping_answer_ends_with_its_client(faults, base_url, sandbox):
    """It does not drip into the void."""
    faults(kinds="drip", drip_interval=60, **EVERY)
    _, body, end = ask_raw(base_url, timeout=0.1)
    assert (body, end) == (b"[", "silent")
    until(lambda: not sandbox.stats.active_requests)
    assert sandbox.stats.abandoned == 1


def test_gzip_cut(faults, base_url, whole):
    """The framing is right, the stream has no end."""
    faults(kinds="gzip_cut", **EVERY)
    head, body, _ = ask_raw(base_url)
    assert "content-encoding: gzip" in head
    assert f"content-length: {len(body)}" in head
    inflater = zlib.decompressobj(wbits=31)
    assert whole.startswith(inflater.decompress(body))
    assert not inflater.eof


def test_gzip_without_a_trailer(faults, base_url, whole):
    """Every byte of the body is there, the checksum is not."""
    faults(kinds="gzip_no_trailer", **EVERY)
    _, body, _ = ask_raw(base_url)
    inflater = zlib.decompressobj(wbits=31)
    assert inflater.decompress(body) == whole
    assert not inflater.eof


def test_gzip_with_a_wrong_checksum(faults, base_url):
    """What any decoder sees."""
    faults(kinds="gzip_crc", **EVERY)
    with pytest.raises(gzip.BadGzipFile, match="CRC"):
        gzip.decompress(ask_raw(base_url)[1])


@pytest.mark.parametrize(
    ("kind", "mime", "test"),
    [
        ("garbage", "application/json", lambda body: b"\xff" in body),
        ("empty", "application/json", lambda body: body == b""),
        ("html", "text/html; charset=utf-8", lambda body: body.startswith(b"<!DOCTYPE html>")),
    ],
)
def test_a_200_that_is_no_answer(kind, mime, test, faults, get):
    """Whole in HTTP's eyes."""
    faults(kinds=kind, **EVERY)
    answer = get()
    assert (answer.status_code, answer.headers["content-type"]) == (200, mime)
    assert test(answer.content)


def test_every_kind_has_been_seen():
    """The tests above name them all."""
    text = Path(__file__).read_text()
    assert {kind for kind in FAULT_KINDS if not kind.isdigit() and f'"{kind}"' not in text} == set()


@pytest.mark.parametrize("kind", ["cut", "reset", "hang_midway"])
async def test_without_a_connection_there_is_nothing_to_break(kind):
    """In-process, below a transport of httpx, such a fault is an error that says what it needs."""
    sandbox = Sandbox(calls=3, faults=Faults(kinds=kind, fail_at=[2]))
    transport = httpx.ASGITransport(sandbox.app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://sandbox/rest/v1", headers=KNOWN
    ) as client:
        assert len((await client.get(PATH)).json()) == 3
        with pytest.raises(TransportError, match=r"sandbox\.serve"):
            await client.get(PATH)
    sandbox.close()


# ------------------------------------------------------------------------------------------------ schedules


@pytest.mark.parametrize(
    ("options", "failing"),
    [
        pytest.param({}, [], id="none"),
        pytest.param({"fail_first": 3}, [1, 2, 3], id="first"),
        pytest.param({"every_nth": 4}, [4, 8, 12], id="every-nth"),
        pytest.param({"fail_at": [2, 9]}, [2, 9], id="at"),
        pytest.param({"fail_after": 10}, [11, 12], id="lasting"),
        pytest.param({"fail_first": 1, "every_nth": 6, "fail_after": 11}, [1, 6, 12], id="together"),
        pytest.param({"error_rate": 1}, list(range(1, 13)), id="always"),
    ],
)
def test_which_requests_fail(options, failing, faults, base_url, sandbox):
    """By number, from the last reset of the counters."""
    faults(**options)
    with httpx.Client(headers=KNOWN, base_url=base_url) as client:
        for _ in range(12):
            client.get(PATH)
    assert [each.number for each in sandbox.requests if each.outcome == "500"] == failing


def test_a_rate_is_a_share_drawn_from_the_seed():
    """Close to the rate, the same again for a seed, another for another."""
    faults = Faults(error_rate=0.2, kinds=("500", "reset", "cut"))
    runs = [[choose_fault(faults, number, seed) for number in range(1, 3001)] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    counts = Counter(runs[0])
    assert 2300 < counts.pop(None) < 2500
    assert set(counts) == {"500", "reset", "cut"}
    assert min(counts.values()) > 150


def test_a_heavy_query_fails_and_a_light_one_does_not(faults, get):
    """By the rows its answer would hold."""
    faults(fail_above_rows=20)
    assert get().status_code == 500
    assert len(get(PATH + "&limit=20").json()) == 20
    assert get(PATH + "&limit=21").status_code == 500


def test_requests_that_are_refused_meet_no_fault(faults, get, base_url):
    """Credentials and parameters are looked at first."""
    faults(kinds="503", **EVERY)
    assert get(PATH + "&page=x").status_code == 400
    assert httpx.get(base_url + PATH).status_code == 401


@pytest.mark.parametrize(
    "wrong",
    [
        {"kinds": "501"},
        {"kinds": ()},
        {"kinds": ("500", "explode")},
        {"latency": -1},
        {"error_rate": 1.1},
        {"max_page_rows": 0},
        {"inserts_per_request": -0.5},
        {"error_format": "yaml"},
    ],
    ids=str,
)
def test_faults_that_cannot_be_are_refused(wrong):
    """With the name of what is wrong."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Faults(**wrong)


# ------------------------------------------------------------------------------------------------ the list


def test_an_answer_takes_its_time(faults, get, sandbox):
    """Latency for all, jitter on top, drawn from the seed."""
    faults(latency=0.05)
    began = time.monotonic()
    assert len(get().json()) == 50
    assert time.monotonic() - began >= 0.05
    delays = [choose_delay(Faults(latency=1, jitter=2), number, 0) for number in range(200)]
    assert 1 <= min(delays) < 1.2
    assert 2.8 < max(delays) <= 3


def test_a_client_that_does_not_wait_is_noticed(faults, base_url, sandbox):
    """While the answer is still on its way, not after it."""
    faults(latency=60)
    assert ask_raw(base_url, timeout=0.05)[2] == "silent"
    until(lambda: not sandbox.stats.active_requests)
    stats = sandbox.stats
    assert (stats.requests, stats.abandoned, stats.answered, stats.failed, stats.rows) == (1, 1, 0, 0, 0)
    assert sandbox.requests[0].outcome == "abandoned"


def test_a_cap_clamps_pages_in_silence(faults, get):
    """Fewer rows than asked; pages follow each other by the cap."""
    faults(max_page_rows=20)
    pages = [get(f"{PATH}&limit=100&page={page}").json() for page in (1, 2, 3, 4)]
    assert [len(page) for page in pages] == [20, 20, 10, 0]
    assert len({call["id"] for page in pages for call in page}) == 50


def test_a_cap_may_come_later(faults, get):
    """After so many requests."""
    faults(max_page_rows=7, max_page_rows_after=2)
    assert [len(get().json()) for _ in range(4)] == [50, 50, 7, 7]


def test_ties_change_places(faults, get, sandbox):
    """Only they, from request to request, and the same again for the same numbers."""
    faults(shuffle_ties=True)
    lists = [[call["id"] for call in get(PATH + "&order=call_start_ASC").json()] for _ in range(4)]
    assert len({tuple(one) for one in lists}) == 4
    starts = {row["id"]: row["call_start"] for row in sandbox.rows()}
    assert all([starts[number] for number in one] == sorted(starts.values()) for one in lists)
    sandbox.reset_stats()
    assert [call["id"] for call in get(PATH + "&order=call_start_ASC").json()] == lists[0]


def test_the_page_may_be_ignored(faults, get):
    """Every page is the first."""
    faults(ignore_page=True)
    assert get(PATH + "&limit=5&page=3").json() == get(PATH + "&limit=5").json() != []


def test_the_dates_may_be_ignored(faults, get):
    """Calls come from outside what was asked for."""
    faults(ignore_dates=True)
    assert len(get("/calls/insights?start_date=2001-01-01&end_date=2001-01-02").json()) == 50


@pytest.mark.parametrize(
    ("on", "accepted", "encoding"),
    [(True, "gzip, deflate", "gzip"), (True, "identity", None), (False, "gzip", None)],
)
def test_gzip_is_for_those_who_accept_it(on, accepted, encoding, faults, get, whole, sandbox):
    """And only when the sandbox is told to."""
    faults(gzip=on)
    answer = get(**{"accept-encoding": accepted})
    assert answer.headers.get("content-encoding") == encoding
    assert answer.content == whole
    assert (sandbox.stats.bytes < len(whole)) == (encoding == "gzip")


def test_an_idle_connection_is_closed(faults, base_url, sandbox):
    """After as many seconds as it is told to."""
    faults(keep_alive=0.01)
    with httpx.Client(headers=KNOWN) as client:
        client.get(base_url + PATH)
        until(lambda: not sandbox.stats.connections)


# ------------------------------------------------------------------------------------------------ live data


def test_calls_come_and_go_between_requests():
    """As many as told, from the seed, within the range; what failed is made up for."""
    outcomes = []
    for _ in range(2):
        faults = Faults(inserts_per_request=1.5, deletes_per_request=0.5, fail_at=[4])
        sandbox = Sandbox(calls=40, start="2024-01-01", end="2024-01-02", seed=3, faults=faults)
        before = sandbox.ids()
        with sandbox.serve() as base_url, httpx.Client(base_url=base_url, headers=KNOWN) as client:
            answers = [client.get(PATH) for _ in range(8)]
        counts = [len(answer.json()) if answer.status_code == 200 else 0 for answer in answers]
        assert counts == [41, 42, 43, 0, 45, 46, 47, 48]
        assert (len(sandbox.inserted_ids), len(sandbox.deleted_ids)) == (12, 4)
        assert set(sandbox.ids()) == (set(before) | sandbox.inserted_ids) - sandbox.deleted_ids
        assert sandbox.ids("2024-01-01", "2024-01-02") == sandbox.ids()
        outcomes.append(sandbox.ids())
    assert outcomes[0] == outcomes[1]
