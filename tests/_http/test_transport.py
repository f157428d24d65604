"""Single exchanges: what is sent, and what each answer becomes."""

import gzip
import json
import ssl
from datetime import datetime
from urllib.parse import parse_qs

import httpx
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
from iovox_async._http.throttle import RetryableFailure

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


async def test_a_page_is_one_request_with_the_headers_and_parameters_of_the_documentation(
    endpoint, open_session
):
    """The endpoint as it is: its path, its names, its defaults, and credentials in its two headers."""
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


async def test_a_page_takes_a_whole_query(endpoint, open_session):
    """`page(InsightsQuery(...))` sends what the query says."""
    endpoint.respond(json=[])
    query = InsightsQuery(start_date="2024-01-01", page=3, limit=7, order="talk_time_ASC", fields=["id"])
    async with open_session() as insights:
        await insights.page(query)
    sent = parse_qs(endpoint.calls.last.request.url.query.decode())
    assert (sent["page"], sent["limit"], sent["order"]) == (["3"], ["7"], ["talk_time_ASC"])
    assert sent["response_fields"] == ["id"]


EMPTY = {"list": b"[]", "null": b"null", "object": b"{}", "blanks": b" [ ] \n"}


@pytest.mark.fault(16)
@pytest.mark.parametrize("body", EMPTY.values(), ids=EMPTY.keys())
async def test_every_form_of_nothing_is_no_calls(body, endpoint, open_session):
    """The back end's habits for an empty result."""
    endpoint.respond(content=body)
    async with open_session() as insights:
        assert (await insights.page()).calls == []


@pytest.mark.fault(16)
async def test_204_is_no_calls(endpoint, open_session):
    """No content is no calls."""
    endpoint.respond(204)
    async with open_session() as insights:
        assert (await insights.page()).calls == []


@pytest.mark.fault(27)
async def test_a_single_calls_object_is_a_list_of_one(endpoint, open_session):
    """The back end's habit for a single result."""
    endpoint.respond(json=CALL)
    async with open_session() as insights:
        assert [call.id for call in (await insights.page()).calls] == [CALL["id"]]


XML = b'<errors><error status="400">Order Field Invalid</error><error>and more</error></errors>'
ANSWERS = [
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


class Wire(httpx.AsyncBaseTransport):
    """Answers bytes as a socket would: nothing is decoded on the way."""

    def __init__(self, status, headers, body):
        self.answer, self.seen, self.closed = (status, headers, body), [], False

    async def handle_async_request(self, request):
        self.seen.append(request)
        status, headers, body = self.answer

        class Body(httpx.AsyncByteStream):
            async def __aiter__(self):
                for place in range(0, len(body), 1000):
                    yield body[place : place + 1000]

        return httpx.Response(status, headers=headers, stream=Body())

    async def aclose(self):
        self.closed = True


@pytest.mark.fault(15, 16, 19, 20, 22, 23, 27)
@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "attempts"),
    ANSWERS,
    ids=[f"{a[0]}-{number}" for number, a in enumerate(ANSWERS)],
)
async def test_every_answer_that_is_no_page_becomes_a_typed_error(
    status, headers, body, kind, attempts, open_session
):
    """Status, headers and body decide the type, and whether it is tried again."""
    wire = Wire(status, headers, body)
    async with open_session(transport=wire) as insights:
        with pytest.raises(IovoxError) as caught:
            await insights.page()
    assert type(caught.value) is kind
    assert caught.value.attempts == attempts
    assert len(wire.seen) == attempts
    assert "demo-key" not in str(caught.value)
    assert wire.closed


@pytest.mark.fault(19)
async def test_the_messages_of_an_error_body_are_kept_each(open_session):
    """All that the endpoint says about a bad request reaches the caller."""
    async with open_session(transport=Wire(400, {}, XML)) as insights:
        with pytest.raises(BadRequestError) as caught:
            await insights.page()
    assert caught.value.messages == ("Order Field Invalid", "and more")
    assert caught.value.parameter == "order"


@pytest.mark.fault(14)
async def test_a_redirect_is_told_by_its_origin_only_and_never_followed(open_session):
    """No path, no query, no second request."""
    wire = Wire(302, {"location": "https://user:pw@thief.example:8443/x?y=1"}, b"")
    async with open_session(transport=wire) as insights:
        with pytest.raises(UnexpectedRedirectError) as caught:
            await insights.page()
    assert caught.value.location == "https://thief.example:8443"
    assert len(wire.seen) == 1


async def test_a_key_that_the_server_repeats_is_not_passed_on(open_session):
    """An error body that echoes the key or a number loses it."""
    body = b"bad key demo-key for 447598455773"
    async with open_session(transport=Wire(400, {}, body)) as insights:
        with pytest.raises(BadRequestError) as caught:
            await insights.page()
    assert caught.value.messages == ("bad key *** for …773",)


def _subclasses(kind):
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)


@pytest.mark.parametrize("kind", sorted(_subclasses(httpx.TransportError), key=lambda kind: kind.__name__))
def test_every_transport_error_of_httpx_has_a_typed_twin(kind):
    """The table is complete: timeouts are RequestTimeout, the rest TransportError."""
    twin = convert_exception(kind("what happened"))
    error = twin.error if isinstance(twin, RetryableFailure) else twin
    assert type(error) is (RequestTimeout if issubclass(kind, httpx.TimeoutException) else TransportError)


async def test_a_certificate_that_cannot_be_trusted_is_tried_once(open_session):
    """TLS verification is looked for through the chain of causes, and never tried again."""

    class Untrusted(httpx.AsyncBaseTransport):
        asked = 0

        async def handle_async_request(self, request):
            self.asked += 1
            cause = ssl.SSLCertVerificationError(1, "certificate verify failed")
            cause.verify_message = "self-signed certificate"
            raise httpx.ConnectError("[SSL]") from cause

    transport = Untrusted()
    async with open_session(transport=transport) as insights:
        with pytest.raises(TLSError, match="self-signed certificate"):
            await insights.page()
    assert transport.asked == 1


async def test_a_stale_connection_is_tried_again_at_once_and_not_counted(open_session, clock):
    """An idle connection that the server closed costs neither a wait nor an attempt."""

    class Stale(httpx.AsyncBaseTransport):
        asked = 0

        async def handle_async_request(self, request):
            self.asked += 1
            if self.asked == 1:
                raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
            return httpx.Response(200, stream=httpx.ByteStream(b"[]"))

    transport = Stale()
    async with open_session(transport=transport, retry=RetryPolicy(max_attempts=1)) as insights:
        await insights.page()
    assert transport.asked == 2
    assert clock.waits == []


@pytest.mark.fault(64)
async def test_long_lists_of_ids_are_split_and_come_back_in_the_order_asked(endpoint, open_session):
    """No URL grows past 4 KiB; what does not exist is left out; a lower cap of the server is asked on through."""
    exists = {30683207000000 + number for number in range(0, 2000, 2)}
    wanted = [30683207000000 + number for number in range(1999, -1, -1)]

    def answer(request):
        assert len(str(request.url)) <= 4096
        sent = parse_qs(request.url.query.decode())
        assert sent["start_date"] == ["2000-01-01 00:00:00"]
        ids = [int(one) for one in sent["id"][0].split(",")]
        found = [{"id": one, "call_start": "2024-02-26 04:39:59"} for one in ids if one in exists]
        return httpx.Response(200, json=found[:50])

    endpoint.mock(side_effect=answer)
    async with open_session() as insights:
        calls = await insights.get(wanted[0], wanted[1:])
    assert [call.id for call in calls] == [one for one in wanted if one in exists]


@pytest.mark.parametrize("odd", [b"12", bytearray(b"12"), None, 5.0, "", [b"12"], True], ids=repr)
async def test_what_is_no_id_is_refused_before_anything_is_sent(endpoint, open_session, odd):
    """Bytes above all, whose items are whole numbers."""
    async with open_session() as insights:
        with pytest.raises(QueryError, match="id: "):
            await insights.get(odd)
    assert not endpoint.called


async def test_an_id_may_be_any_whole_number(endpoint, open_session):
    """Such as numpy's, which are no int and hold no items."""

    class Whole:
        def __index__(self):
            return 12

    endpoint.respond(json=[{**CALL, "id": 12}])
    async with open_session() as insights:
        assert [call.id for call in await insights.get(Whole())] == [12]


async def test_nothing_asked_is_nothing_sent(endpoint, open_session):
    """`get()` of no ids makes no request."""
    async with open_session() as insights:
        assert await insights.get() == []
        assert await insights.get([], ()) == []
    assert not endpoint.called


@given(node_name=st.text(min_size=1, max_size=20).map(str.strip).filter(bool))
def test_given_an_encoded_query_when_it_becomes_part_of_a_url_then_httpx_leaves_it_unchanged(node_name):
    """The query string is encoded once; httpx does not encode it again."""
    try:
        params = InsightsQuery(node_name=node_name, start_date="2024-01-01").to_query_string()
    except QueryError:
        return
    url = httpx.URL(f"https://rest.iovox.com/rest/v1/calls/insights?{params}")
    assert url.raw_path == b"/rest/v1/calls/insights?" + params.encode()
