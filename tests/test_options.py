"""Tests of headers, of `with_options`, of http to private networks, and of what a response says besides its calls."""

import asyncio
import copy
import pickle

import httpx
import pytest
from support.faults import RawServer, answering, every_engine, http_answer
from support.sessions import requests_in_flight

from iovox_async import (
    AsyncInsights,
    BadRequestError,
    ConfigurationError,
    RateLimitError,
    RequestTimeout,
    ResponseError,
    RetryPolicy,
    ServerError,
    SessionError,
)
from iovox_async.sandbox import Faults, Sandbox

START, END = "2024-01-01", "2024-01-10"
KEY, NUMBER, TOKEN = "k3y-0f-n0b0dy", "447598455773", "t0ken-0f-n0b0dy"

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def head_of(server, number=-1):
    """The headers of a request, by lowercase name."""
    lines = server.inbox[number].decode().rstrip().split("\r\n")[1:]
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


# Headers of requests.


@every_engine
async def test_headers_are_sent_with_each_request(engine, open_session):
    """Given headers, when pages are requested, then they are sent, and a User-Agent replaces the default."""
    headers = {"X-Team": "data", "User-Agent": "reports/1"}
    async with RawServer(answering(http_answer())) as server:
        async with open_session(server.base_url, headers=headers) as insights:
            await insights.page(START, END)
    sent = head_of(server)
    assert (sent["x-team"], sent["user-agent"]) == ("data", "reports/1")
    assert (sent["username"], sent["securekey"]) == ("demo", "demo-key")
    assert server.inbox[0].lower().count(b"user-agent") == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"secureKey": "other"},
        {"USERNAME": "other"},
        {"Host": "elsewhere"},
        {"Accept-Encoding": "br"},
        {"Transfer-Encoding": "chunked"},
        {"X Team": "a"},
        {"": "a"},
        {b"X-Team": "a"},
        {"X-Team": "a\r\nsecureKey: other"},
        {"X-Team": b"a"},
        {"X-Team": 5},
        {"X-Team": "Zoë"},
        {"X-Team": " a"},
        [("X-Team", "a")],
        "X-Team: a",
    ],
    ids=repr,
)
def test_invalid_headers_are_refused_without_their_values(headers):
    """Given a credential, a header of the client's or no header, when a session or view is made, then ConfigurationError is raised."""
    with pytest.raises(ConfigurationError, match=r"^headers must") as caught:
        AsyncInsights("demo", KEY, headers=headers)
    assert caught.value.parameter == "headers"
    assert "other" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"^headers must"):
        AsyncInsights("demo", KEY).with_options(headers=headers)


async def test_a_token_among_the_headers_is_masked_in_errors(open_session):
    """Given a gateway's token, when the server repeats it in an error, then no text of the error contains it."""
    answer = http_answer(
        f"bad token {TOKEN}".encode(), b"400 Bad Request", f"x-echo: Bearer {TOKEN}".encode()
    )
    async with RawServer(answering(answer)) as server:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with open_session(server.base_url, headers=headers) as insights:
            with pytest.raises(BadRequestError) as caught:
                await insights.page(START, END)
            assert TOKEN not in repr(insights)
    assert TOKEN not in str(caught.value) + repr(vars(caught.value))


# What a response says.


@every_engine
async def test_a_page_has_status_headers_and_attempts(engine, open_session):
    """Given a page that succeeds at the third attempt, when it is returned, then it says so, with its headers."""
    failed = http_answer(b"", b"500 Internal Server Error")
    page = http_answer(b"[]", b"200 OK", b"X-Request-Id: abc", b"X-Part: 1", b"X-Part: 2")
    async with RawServer(answering(failed, failed, page)) as server:
        async with open_session(server.base_url) as insights:
            page = await insights.page(START, END)
    assert (page.status_code, page.attempts) == (200, 3)
    assert page.headers["x-request-ID"] == "abc"
    assert page.headers["X-Part"] == "1, 2"
    assert "x-request-id" in page.headers
    assert "x-none" not in page.headers
    assert page.headers.get("x-none") is None
    assert dict(page.headers)["content-length"] == "2"
    assert pickle.loads(pickle.dumps(page)) == page


async def test_the_pages_of_a_stream_have_them_too(open_session):
    """Given a stream whose first request fails, when its pages are read, then each has the attempts and headers of its response."""
    sandbox = Sandbox(calls=60, start=START, end=END, faults=Faults(fail_at=(1,), kinds="500"))
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=1, page_size=25) as insights:
        pages = [page async for page in insights.stream(START, END).pages()]
    assert [page.attempts for page in pages][:2] == [2, 1]
    assert {page.status_code for page in pages} == {200}
    assert all(page.headers["content-type"].startswith("application/json") for page in pages)


STATUSES = {
    400: BadRequestError,
    404: BadRequestError,
    401: ResponseError,
    403: ResponseError,
    302: ResponseError,
    429: RateLimitError,
    500: ServerError,
    503: ServerError,
    600: ResponseError,
}


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
async def test_every_response_error_has_status_headers_and_attempts(status, kind, open_session):
    """Given an error status, when it is raised, then it has the response's headers without what is secret, also after pickling."""
    secret = f"https://x.example/?call_origin={NUMBER}&k=demo-key"
    answer = http_answer(
        b"", f"{status} Odd".encode(), b"X-Request-Id: 12345678901", f"location: {secret}".encode()
    )
    async with RawServer(answering(answer)) as server:
        async with open_session(server.base_url, retry=RetryPolicy(max_attempts=2)) as insights:
            with pytest.raises(kind) as caught:
                await insights.page(START, END, call_origin=NUMBER)
    error = caught.value
    for shown in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert shown.status_code == status
        assert shown.attempts == len(server.inbox)
        assert shown.headers["x-request-id"] == "12345678901"
        assert NUMBER not in repr(vars(shown))
        assert "demo-key" not in repr(vars(shown))


def test_an_error_that_a_program_makes_has_no_headers():
    """Given an error made by hand, for a test, when its headers are read, then they are empty."""
    assert dict(ServerError(500).headers) == {}


# with_options.


async def test_a_view_has_its_own_timeout_retries_page_size_and_headers(open_session):
    """Given a session, when a view is made, then the options hold for the view only."""

    async def mute(connection):
        await connection.request()
        await connection.reader.read()

    async with (
        RawServer(mute) as server,
        open_session(server.base_url, headers={"x-a": "1", "x-b": "1"}) as insights,
    ):
        view = insights.with_options(
            timeout=0.05, retry=RetryPolicy(max_attempts=1), page_size=7, headers={"X-B": "2", "x-c": "3"}
        )
        with pytest.raises(RequestTimeout, match=r"within 0\.05 seconds") as caught:
            await view.page(START, END)
        assert caught.value.attempts == 1
        with pytest.raises(RequestTimeout):
            await view.stream(START, END).collect()
        sent = head_of(server)
        assert (sent["x-a"], sent["x-b"], sent["x-c"]) == ("1", "2", "3")
        assert b"limit=7&" in server.inbox[1]
        inherited = view.with_options(timeout=0.06)
        with pytest.raises(RequestTimeout, match=r"0\.06"):
            await inherited.page(START, END)
        assert head_of(server)["x-c"] == "3"
        assert view.account == insights.account


async def test_views_share_connections_and_work_as_long_as_the_session(open_session):
    """Given views, when they are closed, then the session works; when the session is closed, then they raise SessionError."""
    sandbox = Sandbox(calls=60, start=START, end=END)
    async with sandbox.serve() as base_url:
        async with open_session(base_url, concurrency=1) as insights:
            async with insights.with_options(timeout=5) as view:
                assert len(await view.stream(START, END).collect()) == 60
            await view.aclose()
            assert len(await insights.stream(START, END).collect()) == 60
            assert len(await view.get(*sandbox.ids()[:3])) == 3
            assert sandbox.stats.connections_made == 1
        with pytest.raises(SessionError, match="closed"):
            await view.page(START, END)


async def test_a_view_may_be_made_before_the_session_is_open(open_session):
    """Given a view made first, when both are used, then they use the same connections."""
    sandbox = Sandbox(calls=20, start=START, end=END)
    async with sandbox.serve() as base_url:
        insights = open_session(base_url, concurrency=1)
        view = insights.with_options(page_size=10)
        assert len(await view.stream(START, END).collect()) == 20
        await insights.page(START, END)
        await insights.aclose()
        assert sandbox.stats.connections_made == 1


async def test_concurrency_goes_only_downwards_and_both_limits_hold(open_session):
    """Given a session of three, when a view of two and one of that read at once, then no limit is exceeded; four is an error."""
    sandbox = Sandbox(calls=20, start=START, end=END, faults=Faults(latency=0.01))
    async with sandbox.serve() as base_url, open_session(base_url, concurrency=3) as insights:
        for number in (4, 0, -1, 1.5, True):
            with pytest.raises(ConfigurationError, match=r"^concurrency must be"):
                insights.with_options(concurrency=number)
        two = insights.with_options(concurrency=2)
        with pytest.raises(ConfigurationError, match="at most 2"):
            two.with_options(concurrency=3)
        one = two.with_options(concurrency=1)
        peaks = dict.fromkeys((insights, two, one), 0)

        async def watch():
            while True:
                for view in peaks:
                    peaks[view] = max(peaks[view], requests_in_flight(view))
                await asyncio.sleep(0.001)

        watcher = asyncio.create_task(watch())
        await asyncio.gather(*(view.page(START, END) for view in (one, two) for _ in range(6)))
        assert sandbox.stats.peak_active_requests <= 2
        await asyncio.gather(*(view.page(START, END) for view in peaks for _ in range(6)))
        watcher.cancel()
        assert peaks[insights] <= 3
        assert peaks[two] <= 2
        assert peaks[one] <= 1
        assert sandbox.stats.peak_active_requests <= 3
        # A cancelled request of a view returns both slots.
        tasks = [asyncio.create_task(one.page(START, END)) for _ in range(4)]
        await asyncio.sleep(0.005)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(await one.stream(START, END).collect()) == 20
        assert requests_in_flight(insights) == requests_in_flight(one) == 0


async def test_views_take_retries_from_one_budget(open_session):
    """Given a view, when its requests are retried, then the session's budget is smaller."""
    sandbox = Sandbox(calls=20, start=START, end=END, faults=Faults(fail_at=(1, 2), kinds="500"))
    async with sandbox.serve() as base_url, open_session(base_url) as insights:
        budget = insights._connection.throttle.budget
        before = budget.available
        await insights.with_options(concurrency=1).page(START, END)
        assert budget.available == before - 2


@pytest.mark.parametrize("option", ["verify", "engine", "username", "secure_key", "base_url", "transport"])
def test_other_options_belong_to_the_session(option):
    """Given certificates, engine or credentials, when a view is made with them, then that is a TypeError that names the argument."""
    with pytest.raises(TypeError, match=option):
        AsyncInsights("demo", KEY).with_options(**{option: "x"})


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": "5"}, {"retry": 3}, {"page_size": 20_001}, {"page_size": 0}]
)
def test_an_invalid_option_of_a_view_is_an_error(options):
    """Given an invalid option, when a view is made, then ConfigurationError names it."""
    with pytest.raises(ConfigurationError, match=f"^{next(iter(options))} must be"):
        AsyncInsights("demo", KEY).with_options(**options)


# http to a private network.

PRIVATE = ["http://sandbox:8080", "http://10.0.0.7/rest/v1", "http://[fd00::1]:80", "http://sandbox.internal"]


@pytest.mark.parametrize("url", PRIVATE)
def test_http_to_a_private_network_needs_a_permission(url, monkeypatch):
    """Given http to a host of a private network, when a session is made, then only with allow_http or IOVOX_ALLOW_HTTP."""
    with pytest.raises(ConfigurationError, match=r"unencrypted.*allow_http=True.*IOVOX_ALLOW_HTTP=1"):
        AsyncInsights("demo", KEY, base_url=url)
    AsyncInsights("demo", KEY, base_url=url, allow_http=True)
    monkeypatch.setenv("IOVOX_ALLOW_HTTP", "0")
    with pytest.raises(ConfigurationError, match="unencrypted"):
        AsyncInsights("demo", KEY, base_url=url)
    monkeypatch.setenv("IOVOX_ALLOW_HTTP", "1")
    AsyncInsights("demo", KEY, base_url=url)


@pytest.mark.parametrize("url", ["http://rest.iovox.com", "http://8.8.8.8", "http://[2606:4700::1111]"])
def test_http_to_the_service_or_a_public_address_is_never_allowed(url):
    """Given http to the service itself or a public address, when it is allowed, then ConfigurationError is raised all the same."""
    with pytest.raises(ConfigurationError, match="unencrypted"):
        AsyncInsights("demo", KEY, base_url=url, allow_http=True)


@pytest.mark.parametrize("value", ["yes please", "2", "on"])
def test_an_odd_value_of_the_variable_is_an_error(value, monkeypatch):
    """Given a value that is neither yes nor no, when a session is made, then the error names the variable."""
    monkeypatch.setenv("IOVOX_ALLOW_HTTP", value)
    with pytest.raises(ConfigurationError, match=r"^IOVOX_ALLOW_HTTP must be 1 or 0"):
        AsyncInsights("demo", KEY)


def test_http_through_a_proxy_of_the_private_network():
    """Given allow_http, when a proxy of the private network is used for http, then it is accepted; a public one is not."""
    url = "http://sandbox:8080"
    AsyncInsights("demo", KEY, base_url=url, allow_http=True, proxy="http://proxy:3128")
    with pytest.raises(ConfigurationError, match="unencrypted"):
        AsyncInsights("demo", KEY, base_url=url, allow_http=True, proxy="http://8.8.8.8:3128")


async def test_a_session_of_a_transport_takes_headers_and_views(open_session):
    """Given a transport, when a view requests a page, then the transport gets the headers."""
    seen = []

    def respond(request):
        seen.append(request.headers["x-team"])
        return httpx.Response(200, content=b"[]")

    async with open_session(transport=httpx.MockTransport(respond), headers={"x-team": "a"}) as insights:
        await insights.with_options(headers={"X-Team": "b"}).page(START, END)
        await insights.page(START, END)
    assert seen == ["b", "a"]
