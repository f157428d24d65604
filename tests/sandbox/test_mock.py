"""`Sandbox.respond` under respx and mock transports, and what a mock with a fixed list leads to."""

import httpx
import httpx2
import pytest
import respx

from iovox_async import PagingError, TransportError
from iovox_async.sandbox import Faults, Sandbox

ENDPOINT = "https://rest.iovox.test/rest/v1/calls/insights"
START, END = "2024-01-01", "2024-03-31"


@pytest.fixture(scope="module")
def sandbox():
    return Sandbox(calls=400)


@pytest.mark.finding("D1")
@pytest.mark.parametrize("options", [{}, {"order": "call_start_DESC"}, {"paging": "pages"}], ids=str)
async def test_given_respx_when_the_sandbox_responds_then_a_stream_reads_every_call(
    sandbox, options, open_session
):
    """In every order and way of paging."""
    with respx.mock:
        route = respx.get(url__startswith=ENDPOINT).mock(side_effect=sandbox.respond)
        async with open_session(transport=None) as insights:
            calls = await insights.stream(START, END, page_size=50, **options).collect()
    assert {call.id for call in calls} == set(sandbox.ids())
    assert route.call_count > 400 / 50


@pytest.mark.finding("D1")
async def test_given_a_mock_transport_when_the_sandbox_responds_then_pages_and_ids_are_found(
    sandbox, open_session
):
    """`page()`, `get()` and `stream()` work without a server."""
    transport = httpx.MockTransport(sandbox.respond)
    async with open_session(transport=transport) as insights:
        page = await insights.page(START, END, page_size=10)
        assert len(page.calls) == 10
        assert [call.id for call in await insights.get(page.calls[3].id)] == [page.calls[3].id]


@pytest.mark.finding("D1")
async def test_given_httpx2_when_the_sandbox_responds_then_the_response_is_of_httpx2(sandbox):
    """The response has the class of the request's library."""
    async with httpx2.AsyncClient(
        transport=httpx2.MockTransport(sandbox.respond),
        headers={"username": sandbox.username, "secureKey": sandbox.key},
    ) as client:
        response = await client.get(ENDPOINT, params={"start_date": START, "end_date": END, "limit": 7})
    assert isinstance(response, httpx2.Response)
    assert len(response.json()) == 7


@pytest.mark.finding("D1")
async def test_given_faults_under_a_mock_when_read_then_statuses_are_retried_and_resets_are_transport_errors(
    open_session,
):
    """A fault that needs a connection says what to use instead."""
    faulty = Sandbox(calls=100, faults=Faults(every_nth=2, kinds="500"))
    async with open_session(transport=httpx.MockTransport(faulty.respond)) as insights:
        stream = insights.stream(START, END, page_size=20)
        assert [call.id async for call in stream] == faulty.ids()
        assert stream.stats.retries
    broken = Sandbox(calls=100, faults=Faults(every_nth=1, kinds="reset"))
    async with open_session(transport=httpx.MockTransport(broken.respond)) as insights:
        with pytest.raises(TransportError, match=r"sandbox\.serve"):
            await insights.page(START, END)


@pytest.mark.finding("D1")
@pytest.mark.parametrize("rows", [1, 3, 30])
async def test_given_a_mock_with_a_fixed_list_when_streamed_then_the_error_names_the_sandbox(
    rows, open_session
):
    """A fixed list ignores the requested dates, so a stream cannot be exact."""
    calls = [{"id": n, "call_start": f"2024-02-{n % 28 + 1:02d} 10:00:00"} for n in range(rows)]
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json=calls))
    async with open_session(transport=transport) as insights:
        with pytest.raises(PagingError) as caught:
            await insights.stream("2024-01-01", "2024-01-31").collect()
    assert "Sandbox.respond" in caught.value.hint
