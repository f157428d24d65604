"""Tests of single requests: what is sent, and how each response is handled."""

import gzip
import importlib.util
import json
import ssl
from datetime import datetime
from urllib.parse import parse_qs

import httpcore
import httpcore2
import httpx
import httpx2
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

from iovox_async import (
    AuthenticationError,
    BadRequestError,
    DecodeError,
    Fields,
    InsightsQuery,
    IovoxError,
    PermissionDeniedError,
    QueryError,
    RateLimitError,
    RequestTimeout,
    ResponseError,
    RetryPolicy,
    ServerError,
    TLSError,
    TransportError,
    UnexpectedRedirectError,
)
from iovox_async._http.exceptions import convert_exception
from iovox_async._http.failures import RetryableFailure
from iovox_async.sandbox import Sandbox

URL = "https://rest.iovox.test/rest/v1/calls/insights"
CALL = {
    "id": 30683207599876,
    "call_start": "2024-02-26 04:39:59",
    "talk_time": "00:02:05",
    "has_recording": "TRUE",
}


@pytest.fixture
def endpoint():
    with respx.mock(assert_all_called=False) as mock:
        yield mock.get(url__startswith=URL)


async def test_a_page_is_one_request_with_the_documented_headers_and_parameters(endpoint, open_session):
    """Given filters, when a page is requested, then one request has the documented path, parameters and credential headers."""
    endpoint.respond(json=[CALL])
    async with open_session() as insights:
        page = await insights.page("2024-02-01", "2024-02-29", page=2, page_size=10, call_result="ANSWERED")
    request = endpoint.calls.last.request
    assert request.headers["username"] == "demo"
    assert request.headers["secureKey"] == "demo-key"
    assert {name: values[0] for name, values in parse_qs(request.url.query.decode()).items()} == {
        "page": "2",
        "limit": "10",
        "order": "call_start_DESC",
        "start_date": "2024-02-01 00:00:00",
        "end_date": "2024-02-29 23:59:59",
        "call_result": "ANSWERED",
        "response_fields": ",".join(Fields.DEFAULT),
    }
    assert page.number == 2
    assert json.loads(page.raw) == [CALL]
    assert page.calls[0].id == 30683207599876
    assert page.calls[0].call_start == datetime(2024, 2, 26, 4, 39, 59)


async def test_a_page_accepts_a_query(endpoint, open_session):
    """Given an InsightsQuery, when a page is requested with it, then its parameters are sent."""
    endpoint.respond(json=[])
    query = InsightsQuery(start_date="2024-01-01", page=3, limit=7, order="talk_time_ASC", fields=["id"])
    async with open_session() as insights:
        await insights.page(query)
    sent = parse_qs(endpoint.calls.last.request.url.query.decode())
    assert (sent["page"], sent["limit"], sent["order"]) == (["3"], ["7"], ["talk_time_ASC"])
    assert sent["response_fields"] == ["id"]


EMPTY_RESULTS = {"list": b"[]", "null": b"null", "object": b"{}", "blanks": b" [ ] \n"}


@pytest.mark.fault(16)
@pytest.mark.parametrize("body", EMPTY_RESULTS.values(), ids=EMPTY_RESULTS.keys())
async def test_every_form_of_an_empty_result_is_no_calls(body, endpoint, open_session):
    """Given an empty result in any form the endpoint uses, when a page is requested, then it has no calls."""
    endpoint.respond(content=body)
    async with open_session() as insights:
        assert (await insights.page()).calls == []


@pytest.mark.fault(16)
async def test_204_is_no_calls(endpoint, open_session):
    """Given status 204, when a page is requested, then it has no calls."""
    endpoint.respond(204)
    async with open_session() as insights:
        assert (await insights.page()).calls == []


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (201, r"HTTP 201: a list of 1 item. Check base_url= .*status 200"),
        (203, "HTTP 203: a list of 1 item. A proxy has changed this response"),
        (206, "HTTP 206: a list of 1 item. It is a part of a page, which was not requested"),
    ],
)
async def test_a_success_that_is_no_whole_page_is_an_error_that_says_what_came(
    status, message, endpoint, open_session
):
    """Given calls with the status of a partial or changed response, when a page is requested, then it is not accepted."""
    endpoint.respond(status, json=[CALL])
    async with open_session() as insights:
        with pytest.raises(ResponseError, match=message) as caught:
            await insights.page()
    assert caught.value.attempts == 1


@pytest.mark.fault(27)
async def test_a_single_object_is_a_list_of_one_call(endpoint, open_session):
    """Given a single object instead of a list, when a page is requested, then it has one call."""
    endpoint.respond(json=CALL)
    async with open_session() as insights:
        assert [call.id for call in (await insights.page()).calls] == [CALL["id"]]


XML = b'<errors><error status="400">Order Field Invalid</error><error>and more</error></errors>'
RESPONSES = [
    (400, {}, XML, BadRequestError, 1),
    (401, {}, b'<errors><error status="401">HTTP 401: Unauthorized</error></errors>', AuthenticationError, 1),
    (403, {}, b'{"error": "no"}', PermissionDeniedError, 1),
    (404, {}, b"<html>none</html>", BadRequestError, 1),
    (405, {}, b"", BadRequestError, 1),
    (407, {}, b"", BadRequestError, 1),
    (408, {}, b"", ServerError, 5),
    (410, {}, b"", BadRequestError, 1),
    (415, {}, b"", BadRequestError, 1),
    (418, {}, b"", BadRequestError, 1),
    (425, {}, b"", ServerError, 5),
    (429, {}, b"", RateLimitError, 5),
    (500, {}, b"Internal Server Error", ServerError, 5),
    (501, {}, b"", ServerError, 1),
    (502, {}, b"<html><body>Bad gateway</body></html>", ServerError, 5),
    (503, {}, b"", ServerError, 5),
    (504, {}, b"", ServerError, 5),
    (520, {}, b"", ServerError, 5),
    (206, {}, b"[]", ResponseError, 1),
    (302, {"location": "https://thief.example/x?y=1"}, b"", UnexpectedRedirectError, 1),
    (301, {"location": "http://["}, b"", UnexpectedRedirectError, 1),
    (307, {}, b"", UnexpectedRedirectError, 1),
    (200, {}, b"", DecodeError, 5),
    (200, {}, b'[{"id": 1', DecodeError, 5),
    (200, {"content-type": "text/html"}, b"<html>log in</html>", DecodeError, 2),
    (200, {}, b'{"error": "x"}', DecodeError, 5),
    (200, {}, b'"fine"', DecodeError, 5),
    (200, {}, b"12", DecodeError, 5),
    (200, {"content-encoding": "br"}, b"x", DecodeError, 1),
    (200, {"content-encoding": "gzip"}, gzip.compress(b"[]")[:-4], DecodeError, 5),
    (200, {"content-encoding": "gzip"}, b"no gzip", DecodeError, 5),
    (200, {}, b"[" * 100_000, DecodeError, 5),
]


class RawTransport(httpx.AsyncBaseTransport):
    """Responds with raw bytes, as a socket would."""

    def __init__(self, status, headers, body):
        self.response, self.seen, self.closed = (status, headers, body), [], False

    async def handle_async_request(self, request):
        self.seen.append(request)
        status, headers, body = self.response

        class Body(httpx.AsyncByteStream):
            async def __aiter__(self):
                for offset in range(0, len(body), 1000):
                    yield body[offset : offset + 1000]

        return httpx.Response(status, headers=headers, stream=Body())

    async def aclose(self):
        self.closed = True


@pytest.mark.fault(15, 16, 19, 20, 22, 23, 27)
@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "attempts"),
    RESPONSES,
    ids=[f"{a[0]}-{number}" for number, a in enumerate(RESPONSES)],
)
async def test_every_other_response_becomes_a_typed_error(
    status, headers, body, kind, attempts, open_session
):
    """Given a response that is not a page, when it is received, then status, headers and body decide the error and its retries."""
    transport = RawTransport(status, headers, body)
    async with open_session(transport=transport) as insights:
        with pytest.raises(IovoxError) as caught:
            await insights.page()
    assert type(caught.value) is kind
    assert caught.value.attempts == attempts
    assert len(transport.seen) == attempts
    assert "demo-key" not in str(caught.value)
    assert transport.closed


@pytest.mark.fault(19)
async def test_all_messages_of_an_error_body_are_kept(open_session):
    """Given an error body with several messages, when the error is raised, then it has all of them."""
    async with open_session(transport=RawTransport(400, {}, XML)) as insights:
        with pytest.raises(BadRequestError) as caught:
            await insights.page()
    assert caught.value.messages == ("Order Field Invalid", "and more")
    assert caught.value.parameter == "order"


@pytest.mark.fault(14)
async def test_a_redirect_is_not_followed_and_only_its_origin_is_kept(open_session):
    """Given a redirect, when a page is requested, then the error has the target's origin only, and no second request is sent."""
    transport = RawTransport(302, {"location": "https://user:pw@thief.example:8443/x?y=1"}, b"")
    async with open_session(transport=transport) as insights:
        with pytest.raises(UnexpectedRedirectError) as caught:
            await insights.page()
    assert caught.value.location == "https://thief.example:8443"
    assert len(transport.seen) == 1


async def test_a_key_in_an_error_body_is_masked(open_session):
    """Given an error body with the key and a phone number, when the error is raised, then both are masked."""
    body = b"bad key demo-key for 447598455773"
    async with open_session(transport=RawTransport(400, {}, body)) as insights:
        with pytest.raises(BadRequestError) as caught:
            await insights.page()
    assert caught.value.messages == ("bad key *** for …773",)


def _subclasses(kind):
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)


POOL_ERRORS = [
    kind
    for pool in (httpcore, httpcore2)
    for kind in vars(pool).values()
    if isinstance(kind, type) and issubclass(kind, Exception)
]


@pytest.mark.parametrize(
    "kind",
    [*_subclasses(httpx.TransportError), *_subclasses(httpx2.TransportError), *POOL_ERRORS],
    ids=lambda kind: f"{kind.__module__.partition('.')[0]}.{kind.__name__}",
)
def test_every_transport_error_of_both_libraries_and_their_pools_is_converted(kind):
    """Given any exception of a library or its pool, when it is converted, then timeouts are RequestTimeout, others TransportError."""
    failure = convert_exception(kind("message"), response_started=True)
    error = failure.error if isinstance(failure, RetryableFailure) else failure
    is_timeout = any("TimeoutException" in base.__name__ for base in kind.__mro__)
    assert type(error) is (RequestTimeout if is_timeout else TransportError)


async def test_a_certificate_error_deep_in_the_causes_is_not_retried(open_session):
    """Given a ConnectError caused by a certificate error, when a page is requested, then TLSError is raised after one attempt."""

    class Untrusted(httpx.AsyncBaseTransport):
        requests = 0

        async def handle_async_request(self, request):
            self.requests += 1
            cause = ssl.SSLCertVerificationError(1, "certificate verify failed")
            cause.verify_message = "self-signed certificate"
            raise httpx.ConnectError("[SSL]") from cause

    transport = Untrusted()
    async with open_session(transport=transport) as insights:
        with pytest.raises(TLSError, match="self-signed certificate"):
            await insights.page()
    assert transport.requests == 1


async def test_a_stale_connection_is_retried_at_once(open_session, clock):
    """Given a reused connection closed by the server, when a page is requested, then the retry costs no wait and no attempt."""

    class Stale(httpx.AsyncBaseTransport):
        requests = 0

        async def handle_async_request(self, request):
            self.requests += 1
            if self.requests == 1:
                await request.extensions["trace"]("http11.send_request_headers.started", {})
                raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
            return httpx.Response(200, stream=httpx.ByteStream(b"[]"))

    transport = Stale()
    async with open_session(transport=transport, retry=RetryPolicy(max_attempts=1)) as insights:
        await insights.page()
    assert transport.requests == 2
    assert clock.waits == []


async def test_an_id_does_not_exist_if_two_responses_leave_it_out(endpoint, open_session):
    """Given responses that leave out ids, then what one leaves out is requested once more, with another limit, and no further."""
    sent = []

    def respond(request):
        query = parse_qs(request.url.query.decode())
        sent.append((query["id"][0], query["limit"][0]))
        existing_rows = {1: [1, 2], 2: [3]}.get(len(sent), [])
        return httpx.Response(
            200, json=[{"id": one, "call_start": "2024-02-26 04:39:59"} for one in existing_rows]
        )

    endpoint.mock(side_effect=respond)
    async with open_session() as insights:
        assert [call.id for call in await insights.get(3, 4, 1, 2)] == [3, 1, 2]
        assert [ids for ids, _ in sent] == ["3,4,1,2", "3,4", "4"]
        sent[:] = [()] * 3
        assert await insights.get(5) == []
    assert [ids for ids, _ in sent[3:]] == ["5", "5"]
    assert len({limit for _, limit in sent[3:]}) == 2


@pytest.mark.finding("A9")
async def test_no_request_may_be_answered_from_a_cache(endpoint, open_session):
    """Given a stream, pages, get() and follow, when requests are sent, then each asks caches for a fresh response."""
    endpoint.mock(side_effect=Sandbox(calls=5, start="2024-02-26", end="2024-02-27").respond)
    async with open_session() as insights:
        await insights.page("2024-02-26", "2024-02-27")
        await insights.get(1)
        await anext(aiter(insights.stream("2024-02-26", "2024-02-27")))
        assert await anext(aiter(insights.follow("2024-02-26")))
    assert endpoint.call_count >= 4
    assert {call.request.headers.get("cache-control") for call in endpoint.calls} == {"no-cache"}


@pytest.mark.fault(64)
async def test_long_id_lists_are_split_and_returned_in_order(endpoint, open_session):
    """Given 2,000 ids, when they are requested, then no URL exceeds 4 KiB, and calls come in the order of the ids."""
    exists = {30683207000000 + number for number in range(0, 2000, 2)}
    requested_ids = [30683207000000 + number for number in range(1999, -1, -1)]

    def respond(request):
        assert len(str(request.url)) <= 4096
        sent = parse_qs(request.url.query.decode())
        assert sent["start_date"] == ["2000-01-01 00:00:00"]
        ids = [int(one) for one in sent["id"][0].split(",")]
        existing_rows = [{"id": one, "call_start": "2024-02-26 04:39:59"} for one in ids if one in exists]
        return httpx.Response(200, json=existing_rows[:50])

    endpoint.mock(side_effect=respond)
    async with open_session() as insights:
        calls = await insights.get(requested_ids[0], requested_ids[1:])
    assert [call.id for call in calls] == [one for one in requested_ids if one in exists]


@pytest.mark.parametrize("odd", [b"12", bytearray(b"12"), None, 5.0, "", [b"12"], True], ids=repr)
async def test_an_invalid_id_is_rejected_before_sending(endpoint, open_session, odd):
    """Given a value that is not an id, when it is requested, then QueryError is raised, and nothing is sent."""
    async with open_session() as insights:
        with pytest.raises(QueryError, match=r"^ids? "):
            await insights.get(odd)
    assert not endpoint.called


async def test_an_id_may_be_any_integer_type(endpoint, open_session):
    """Given an integer type like numpy's, when it is requested, then the call is returned."""

    class Whole:
        def __index__(self):
            return 12

    endpoint.respond(json=[{**CALL, "id": 12}])
    async with open_session() as insights:
        assert [call.id for call in await insights.get(Whole())] == [12]


async def test_no_ids_send_no_request(endpoint, open_session):
    """Given no ids, when get() is called, then no request is sent."""
    async with open_session() as insights:
        assert await insights.get() == []
        assert await insights.get([], ()) == []
    assert not endpoint.called


@given(node_name=st.text(min_size=1, max_size=20).map(str.strip).filter(bool))
def test_httpx_does_not_encode_a_query_string_again(node_name):
    """Given an encoded query string, when it becomes part of a URL, then it is unchanged."""
    try:
        params = InsightsQuery(node_name=node_name, start_date="2024-01-01").to_query_string()
    except QueryError:
        return
    url = httpx.URL(f"https://rest.iovox.com/rest/v1/calls/insights?{params}")
    assert url.raw_path == b"/rest/v1/calls/insights?" + params.encode()


def test_the_private_module_of_anyio_that_is_imported_early_exists():
    """Given the installed anyio (checked with 4.16), then the backend that `transport` imports at load time exists."""
    assert importlib.util.find_spec("anyio._backends._asyncio"), (
        "see the import in iovox_async/_http/transport.py"
    )
