"""Tests of broken responses and servers over real sockets."""

import asyncio
import gzip

import pytest
from support.faults import CALL, PAGE, RESPONSE, RawServer, answering, every_engine, http_answer
from support.sessions import endpoint, page_ids

from iovox_async import (
    BadRequestError,
    DecodeError,
    RateLimitError,
    RequestTimeout,
    RetryPolicy,
    TransportError,
)
from iovox_async._http import transport
from iovox_async.sandbox import Sandbox

START, END = "2024-01-01", "2024-01-10"


pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.mark.fault(4)
@every_engine
async def test_a_closed_idle_connection_costs_no_attempt_and_no_wait(open_session, clock):
    """Given a server that closes idle connections, when pages are requested one by one, then each is returned without a wait."""

    async def one_response(connection):
        await connection.request()
        await connection.send(RESPONSE)
        # The next request is read, and gets no response.
        await connection.request()

    async with RawServer(one_response) as server:
        async with open_session(server.base_url, retry=RetryPolicy(max_attempts=1)) as insights:
            assert [await page_ids(insights) for _ in range(4)] == [[CALL["id"]]] * 4
        assert server.connections == 4
    assert clock.waits == []


MALFORMED = {
    "a header of 200 KB": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n[]",
    "no HTTP at all": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n[]",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n[]",
    "two lengths that differ": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n[]",
    "a length of letters": b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\n[]",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n[]",
    "a chunk without a size": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n[]\r\n0\r\n\r\n",
}


@pytest.mark.sweep(4)
@pytest.mark.fault(13)
@every_engine
@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_response_that_is_not_http_is_retried_once(data, open_session):
    """Given bytes that are not HTTP, when a page is requested, then it is retried once; the error shows none of the bytes."""
    async with RawServer(answering(data)) as server:
        async with open_session(server.base_url) as insights:
            with pytest.raises(TransportError, match="is not HTTP") as caught:
                await insights.page()
        assert caught.value.attempts == 2
        assert len(server.inbox) == 2
    assert "yyy" not in str(caught.value)
    assert len(str(caught.value)) < 200


async def test_an_unknown_transfer_encoding_is_not_http(open_session):
    """Given an unknown transfer encoding, when a page is requested through httpx, then the response is rejected as not HTTP."""
    data = b"HTTP/1.1 200 OK\r\ntransfer-encoding: zip\r\n\r\n[]"
    async with RawServer(answering(data)) as server, open_session(server.base_url) as insights:
        with pytest.raises(TransportError, match="is not HTTP") as caught:
            await insights.page()
    assert caught.value.attempts == 2


@pytest.mark.fault(13)
@every_engine
@pytest.mark.parametrize("endless", [False, True], ids=["then a response", "endless"])
async def test_a_flood_of_100_continue_is_skipped_or_ends_at_the_deadline(endless, open_session):
    """Given many interim responses, when a page is requested, then they are skipped; if they never end, it times out."""

    async def flood(connection):
        await connection.request()
        while endless:
            await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 50)
            await asyncio.sleep(0)
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 500 + RESPONSE)

    async with RawServer(flood) as server:
        options = {"timeout": 0.15, "retry": RetryPolicy(max_attempts=1)} if endless else {}
        async with open_session(server.base_url, **options) as insights:
            if endless:
                with pytest.raises(RequestTimeout):
                    await insights.page()
            else:
                assert await page_ids(insights) == [CALL["id"]]


def truncated(*blocks, reset=False):
    """A handler whose first response ends after these blocks; later responses are complete."""

    async def handler(connection):
        while await connection.request() is not None:
            if connection.number > 1:
                await connection.send(RESPONSE)
                continue
            for block in blocks:
                await connection.send(block)
                await asyncio.sleep(0.001)
            if reset:
                connection.reset()
            return

    return handler


HEAD = b"HTTP/1.1 200 OK\r\n"
HALF = PAGE[: len(PAGE) // 2]
GZIP = gzip.compress(PAGE)
GZIP_HEAD = HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
TRUNCATED = {
    "in the status line": truncated(b"HTTP/1.1 20"),
    "in the headers": truncated(HEAD + b"content-le"),
    "after the headers": truncated(HEAD + b"content-length: 50\r\n\r\n"),
    "a length not met": truncated(HEAD + b"content-length: 500\r\n\r\n", PAGE),
    "chunks without an end": truncated(
        HEAD + b"transfer-encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n" % (len(PAGE), PAGE)
    ),
    "a body without a length": truncated(HEAD + b"\r\n", HALF),
    "a reset before the answer": truncated(reset=True),
    "a reset in the middle": truncated(HEAD + b"content-length: 500\r\n\r\n", PAGE, reset=True),
    "gzip truncated": truncated(GZIP_HEAD % 40 + GZIP[:40]),
    "gzip without its trailer": truncated(GZIP_HEAD % (len(GZIP) - 8) + GZIP[:-8]),
    "gzip with a wrong checksum": truncated(GZIP_HEAD % len(GZIP) + GZIP[:-8] + b"\0" * 8),
    "a second member truncated": truncated(GZIP_HEAD % (len(GZIP) + 12) + GZIP + GZIP[:12]),
    "nothing at all in a 200": truncated(http_answer(b"")),
}


@pytest.mark.sweep(4)
@pytest.mark.fault(5, 6, 7)
@every_engine
@pytest.mark.parametrize("handler", TRUNCATED.values(), ids=TRUNCATED.keys())
async def test_a_truncated_response_is_detected_and_retried(handler, open_session):
    """Given a response truncated anywhere, when a page is requested, then it is discarded and requested again."""
    async with RawServer(handler) as server, open_session(server.base_url) as insights:
        assert await page_ids(insights) == [CALL["id"]]
        assert len(server.inbox) == 2


@pytest.mark.fault(8)
@every_engine
@pytest.mark.parametrize("encoding", [b"gzip", b"X-GZIP", b"identity, gzip"])
async def test_every_member_of_a_gzip_body_is_decoded(encoding, open_session):
    """Given a gzip body of several members, whichever name its encoding has, when a page is requested, then all are decoded."""
    body = b"".join(gzip.compress(PAGE[offset : offset + 7]) for offset in range(0, len(PAGE), 7))
    response = http_answer(body, b"200 OK", b"content-encoding: " + encoding)
    async with RawServer(answering(response)) as server, open_session(server.base_url) as insights:
        assert await page_ids(insights) == [CALL["id"]]


@pytest.mark.fault(10)
@every_engine
@pytest.mark.parametrize(
    "encoding", [b"br", b"gzip, gzip", b"gzip, gzip, gzip, gzip, gzip, gzip", b"deflate"]
)
async def test_an_unrequested_encoding_is_rejected_without_a_retry(encoding, open_session):
    """Given an encoding other than gzip, when a stream is read, then DecodeError is raised after one request."""
    response = http_answer(b"x", b"200 OK", b"content-encoding: " + encoding)
    async with RawServer(answering(response)) as server:
        async with open_session(server.base_url) as insights:
            with pytest.raises(DecodeError, match="only gzip was accepted") as caught:
                await insights.stream(START, END).collect()
        assert caught.value.attempts == len(server.inbox) == 1


BOMBS = {
    "a bomb": gzip.compress(b" " * 50_000_000, 9),
    "a bomb of empty members": gzip.compress(b"") * 60_000,
}


@pytest.mark.fault(9)
@every_engine
@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS.keys())
async def test_a_decompression_bomb_is_stopped_and_not_retried(body, open_session):
    """Given a body that exceeds the size limit when decoded, when a page is requested, then reading stops, and it is not retried."""
    bomb = http_answer(body, b"200 OK", b"content-encoding: gzip")
    async with RawServer(answering(bomb)) as server, open_session(server.base_url) as insights:
        endpoint(insights)._max_page_bytes = 1_000_000
        with pytest.raises(DecodeError, match="larger than 1000000 bytes") as caught:
            await insights.page()
        assert caught.value.attempts == len(server.inbox) == 1


@pytest.mark.fault(9)
@every_engine
async def test_a_window_whose_page_is_too_large_is_split(open_session):
    """Given a size limit below a page's size, when a stream is read, then its windows are split, and no call is lost."""
    sandbox = Sandbox(calls=600, start=START, end=END)
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=1) as insights:
        endpoint(insights)._max_page_bytes = 80_000
        stream = insights.stream(START, END, page_size=500)
        assert [call.id async for call in stream] == sandbox.ids()
        assert stream.stats.window_splits in {1, 2}


@pytest.mark.fault(26)
@every_engine
async def test_an_error_with_an_endless_body_is_raised_by_its_status(open_session, monkeypatch):
    """Given an error body that is huge or never ends, when a page is requested, then the error has the status and the first text."""
    monkeypatch.setattr(transport, "ERROR_BODY_SECONDS", 0.2)

    async def endless(connection):
        await connection.request()
        await connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>no")
        # The first connection gets nothing more, the second 10 MB.
        await connection.send(b" and no" * 1_500_000 * (connection.number - 1))
        await connection.reader.read()

    async with RawServer(endless) as server, open_session(server.base_url) as insights:
        for _ in range(2):
            with pytest.raises(BadRequestError, match="HTTP 400: no") as caught:
                await insights.page()
            assert caught.value.attempts == 1
            assert len(str(caught.value)) < 500


# Many callers.


@pytest.mark.fault(53)
@every_engine
async def test_many_callers_are_served_in_order(open_session):
    """Given 150 callers and 4 slots, when all request a page, then requests are sent in order, without a pool timeout."""
    numbers = []

    async def handler(connection):
        while (head := await connection.request()) is not None:
            numbers.append(int(head.partition(b"iovox_number=")[2].partition(b"&")[0]))
            await connection.send(http_answer())

    async with RawServer(handler) as server, open_session(server.base_url, concurrency=4) as insights:
        callers = [insights.page(START, END, iovox_number=str(1000 + index)) for index in range(150)]
        await asyncio.gather(*callers)
        assert server.connections <= 4
    assert all(abs(position - (number - 1000)) <= 8 for position, number in enumerate(numbers))


@every_engine
async def test_a_long_retry_after_is_raised_with_its_length(open_session, clock):
    """Given a Retry-After above the maximum, when a stream is read, then the error has its length, and nothing is retried."""
    answer = http_answer(b"", b"429 Too Many Requests", b"retry-after: 3600")
    async with RawServer(answering(answer)) as server, open_session(server.base_url) as insights:
        with pytest.raises(RateLimitError, match="3600 seconds") as caught:
            await insights.stream(START, END).collect()
        assert caught.value.retry_after == 3600.0
        assert len(server.inbox) == 1
    assert clock.waits == []
