"""Every kind of fault, observed with plain sockets and a plain client."""

import gzip
import json
import logging
import zlib
from pathlib import Path

import httpx
import pytest
from support.sandbox import CREDENTIALS, PATH, request_raw, send_raw
from support.waiting import until_sync

from iovox_async.errors import TransportError
from iovox_async.sandbox import FAULT_KINDS, Faults, Sandbox

ALWAYS = {"fail_after": 0}


@pytest.mark.parametrize("status", [int(kind) for kind in FAULT_KINDS if kind.isdigit()])
def test_given_a_status_when_a_request_fails_then_it_is_returned_with_an_error_body(
    status, set_faults, get, fault_sandbox
):
    """Given a status as the kind of fault, when a request fails, then the response has it, an error body and its headers."""
    set_faults(kinds=str(status), retry_after=7, **ALWAYS)
    response = get()
    assert response.status_code == status
    assert f'<error status="{status}">' in response.text
    assert response.headers.get("retry-after") == ("7" if status in {429, 503} else None)
    assert ("location" in response.headers) == (status == 302)
    assert (fault_sandbox.stats.failed, fault_sandbox.stats.answered, fault_sandbox.requests[0].outcome) == (
        1,
        0,
        str(status),
    )


@pytest.mark.parametrize("retry_after", ["Wed, 21 Oct 2026 07:28:00 GMT", "soon", 0, 1.5, -1])
def test_given_any_retry_after_when_a_request_fails_then_the_header_is_unchanged(
    retry_after, set_faults, get
):
    """Given seconds, a date or nonsense, when a request fails with 429, then Retry-After is that text."""
    set_faults(kinds="429", retry_after=retry_after, **ALWAYS)
    assert get().headers["retry-after"] == str(retry_after)


def test_given_no_retry_after_when_a_request_fails_then_there_is_no_header(set_faults, get):
    """Given the default, when a request fails with 503, then there is no Retry-After."""
    set_faults(kinds="503", **ALWAYS)
    assert "retry-after" not in get().headers


def test_given_a_location_when_a_request_is_redirected_then_the_header_has_it(set_faults, get, fault_url):
    """Given `location`, when a request fails with 302, then Location is that address."""
    set_faults(kinds="302", location="http://127.0.0.1:9/elsewhere", **ALWAYS)
    assert get().headers["location"] == "http://127.0.0.1:9/elsewhere"


def test_given_cut_when_a_request_fails_then_the_body_is_shorter_than_its_length(
    set_faults, fault_url, valid_body
):
    """Given "cut", when a request fails, then half the body is sent and the connection is closed."""
    set_faults(kinds="cut", **ALWAYS)
    head, body, end = request_raw(fault_url)
    assert f"content-length: {len(valid_body)}" in head
    assert (body, end) == (valid_body[: len(valid_body) // 2], "closed")


def test_given_cut_chunked_when_a_request_fails_then_the_last_chunk_is_missing(
    set_faults, fault_url, valid_body
):
    """Given "cut_chunked", when a request fails, then one chunk with half the body is sent, and no last one."""
    set_faults(kinds="cut_chunked", **ALWAYS)
    head, body, end = request_raw(fault_url)
    half = valid_body[: len(valid_body) // 2]
    assert "transfer-encoding: chunked" in head
    assert (body, end) == (b"%x\r\n%b\r\n" % (len(half), half), "closed")


def test_given_cut_clean_when_a_request_fails_then_only_the_json_is_incomplete(
    set_faults, fault_url, valid_body
):
    """Given "cut_clean", when a request fails, then the response has no length, and only its JSON is incomplete."""
    set_faults(kinds="cut_clean", **ALWAYS)
    head, body, end = request_raw(fault_url)
    assert "content-length" not in head
    assert "transfer-encoding" not in head
    assert (body, end) == (valid_body[: len(valid_body) // 2], "closed")
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


@pytest.mark.parametrize(("kind", "end"), [("close", "closed"), ("reset", "reset")])
def test_given_close_or_reset_when_a_request_fails_then_no_byte_is_sent(kind, end, set_faults, fault_url):
    """Given "close" or "reset", when a request fails, then the connection ends before the first byte."""
    set_faults(kinds=kind, **ALWAYS)
    assert request_raw(fault_url) == ("", b"", end)


def test_given_reset_midway_when_a_request_fails_then_the_connection_is_reset_within_the_body(
    set_faults, fault_url, valid_body
):
    """Given "reset_midway", when a request fails, then the connection is reset after a part of the body."""
    set_faults(kinds="reset_midway", **ALWAYS)
    _, body, end = request_raw(fault_url)
    assert end == "reset"
    assert valid_body.startswith(body)


def test_given_a_disconnected_client_when_its_connection_is_to_be_reset_then_nothing_is_logged(caplog):
    """Given a client that disconnects, when the server is about to reset the connection, then there is no error."""
    sandbox = Sandbox(calls=0, faults=Faults(kinds="reset_midway", **ALWAYS))
    # More than the network buffers.
    sandbox.add([{"comments": [{"text": "x" * 20_000_000}]}])
    with sandbox.serve() as base_url:
        with send_raw(base_url, path=PATH + "&response_fields=comment_text") as line:
            assert line.recv(12) == b"HTTP/1.1 200"
        until_sync(lambda: not sandbox.stats.connections)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(("kind", "share"), [("hang", 0), ("hang_midway", 0.5)])
def test_given_hang_when_a_request_fails_then_nothing_is_sent_until_the_client_disconnects(
    kind, share, set_faults, fault_url, valid_body, fault_sandbox
):
    """Given "hang" or "hang_midway", when a request fails, then it lasts until the client disconnects, which is noticed."""
    set_faults(kinds=kind, **ALWAYS)
    head, body, end = request_raw(fault_url, silent_after=int(len(valid_body) * share))
    assert (body, end) == (valid_body[: int(len(valid_body) * share)], "timeout")
    assert bool(head) == bool(share)
    until_sync(lambda: fault_sandbox.stats.abandoned == 1)
    assert fault_sandbox.stats.failed == 1


def test_given_drip_when_a_request_fails_then_the_body_is_sent_byte_by_byte(set_faults, fault_url):
    """Given "drip", when a request fails, then all bytes are sent, one at a time."""
    set_faults(kinds="drip", drip_interval=0.002, **ALWAYS)
    head, body, end = request_raw(fault_url, path=PATH + "&limit=2&response_fields=id")
    assert f"content-length: {len(body)}" in head
    assert (len(json.loads(body)), end) == (2, "closed")


def test_given_drip_when_the_client_disconnects_then_the_response_ends(set_faults, fault_url, fault_sandbox):
    """Given "drip" with a long interval, when the client disconnects, then the request ends."""
    set_faults(kinds="drip", drip_interval=60, **ALWAYS)
    _, body, end = request_raw(fault_url, silent_after=1)
    assert (body, end) == (b"[", "timeout")
    until_sync(lambda: fault_sandbox.stats.abandoned == 1)


def test_given_gzip_cut_when_a_request_fails_then_the_gzip_stream_has_no_end(
    set_faults, fault_url, valid_body
):
    """Given "gzip_cut", when a request fails, then the framing is right and the gzip stream is incomplete."""
    set_faults(kinds="gzip_cut", **ALWAYS)
    head, body, _ = request_raw(fault_url)
    assert "content-encoding: gzip" in head
    assert f"content-length: {len(body)}" in head
    decompressor = zlib.decompressobj(wbits=31)
    assert valid_body.startswith(decompressor.decompress(body))
    assert not decompressor.eof


def test_given_gzip_no_trailer_when_a_request_fails_then_only_the_checksum_is_missing(
    set_faults, fault_url, valid_body
):
    """Given "gzip_no_trailer", when a request fails, then the valid_body body is there without its checksum."""
    set_faults(kinds="gzip_no_trailer", **ALWAYS)
    _, body, _ = request_raw(fault_url)
    decompressor = zlib.decompressobj(wbits=31)
    assert decompressor.decompress(body) == valid_body
    assert not decompressor.eof


def test_given_gzip_crc_when_a_request_fails_then_the_checksum_is_wrong(set_faults, fault_url):
    """Given "gzip_crc", when a request fails, then the checksum does not match."""
    set_faults(kinds="gzip_crc", **ALWAYS)
    with pytest.raises(gzip.BadGzipFile, match="CRC"):
        gzip.decompress(request_raw(fault_url)[1])


@pytest.mark.parametrize(
    ("kind", "mime", "test"),
    [
        ("garbage", "application/json", lambda body: b"\xff" in body),
        ("empty", "application/json", lambda body: body == b""),
        ("html", "text/html; charset=utf-8", lambda body: body.startswith(b"<!DOCTYPE html>")),
    ],
)
def test_given_an_invalid_body_when_a_request_fails_then_the_status_is_200(kind, mime, test, set_faults, get):
    """Given "garbage", "empty" or "html", when a request fails, then the response is complete with status 200."""
    set_faults(kinds=kind, **ALWAYS)
    response = get()
    assert (response.status_code, response.headers["content-type"]) == (200, mime)
    assert test(response.content)


def test_given_all_kinds_of_fault_when_listed_then_this_file_tests_each():
    """Given FAULT_KINDS, when compared with this file, then each kind has a test."""
    text = Path(__file__).read_text()
    assert {kind for kind in FAULT_KINDS if not kind.isdigit() and f'"{kind}"' not in text} == set()


@pytest.mark.parametrize("kind", ["cut", "reset", "hang_midway"])
async def test_given_a_test_transport_when_a_fault_needs_a_connection_then_the_error_says_so(kind):
    """Given an in-process transport, when a fault needs a connection, then TransportError says what to use."""
    sandbox = Sandbox(calls=3, faults=Faults(kinds=kind, fail_at=[2]))
    transport = httpx.ASGITransport(sandbox.app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://sandbox/rest/v1", headers=CREDENTIALS
    ) as client:
        assert len((await client.get(PATH)).json()) == 3
        with pytest.raises(TransportError, match=r"sandbox\.serve"):
            await client.get(PATH)
    sandbox.close()
