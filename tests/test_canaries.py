"""A server that repeats the key and sends phone numbers: neither is in any output, by whatever route they come."""

import asyncio
import contextlib
import html
import itertools
import json
import os
import random
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import httpx
import pytest
from click.testing import CliRunner
from support.clock import fake_runtime
from support.leaks import shown
from support.web_apps import serve

from iovox_async import AsyncInsights, Fields, InsightsQuery, IovoxError, RetryPolicy
from iovox_async._runtime import use_runtime
from iovox_async.backfill import Backfill
from iovox_async.cli.app import iovox
from iovox_async.events import BaseObserver
from iovox_async.integrations._error_response import error_response
from iovox_async.integrations._streaming import NDJSONFormat, SSEFormat

HERE = __file__
START, END = "2024-01-01", "2024-01-03"
#: A key whose parts occur nowhere else, with characters that escaping changes.
KEY = "Zq7&Wv3<x>Jk9+Lm2/Tb5=Hd8\\Rf4\"'Yn6"
#: Phone numbers whose digits occur nowhere else, and the name of a caller.
NUMBERS = ("447598455773", "+44 7598 455 773", "(0)7598 455773", "+44.7598.455.773", "07598-455-773")
NAME = "Wilhelmina"

ESCAPES = {
    "plain": str,
    "HTML": html.escape,
    "entities": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "percent": lambda text: quote(text, safe=""),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON, all": lambda text: "".join(f"\\u{ord(c):04x}" for c in text),
}
ROW = '{"id": 1, "call_start": "2024-01-01 00:00:00", %s}'
FORMS = {
    "text": "%s",
    "JSON": '{"error": "%s"}',
    "nested JSON": '{"errors": [{"message": "no", "detail": {"message": "%s"}}]}',
    "XML": "<errors><error>%s</error></errors>",
    "HTML": "<html><body><h1>%s</h1></body></html>",
    "cut JSON": '{"error": "%s',
    "long text": "y" * 185 + " %s " + "z" * 300,
    "data": '{"data": [{"name": "%s"}], "%s": 5}',
    "no JSON": '[{"id": %s',
    "a date": f"[{ROW}]" % '"call_end": "%s"',
    "a duration": f"[{ROW}]" % '"talk_time": "%s"',
    "a number in a part": f"[{ROW}]" % '"transcriptions": [{"phrases": [{"start": "%s"}]}]',
    "an object for a list": f"[{ROW}]" % '"tags": {"%s": 5}',
    "the start": '[{"id": 1, "call_start": "%s"}]',
    "the id": '[{"id": "%s", "call_start": "2024-01-01 00:00:00"}]',
    "another row": f'[{ROW}, {{"id": "x"}}]' % '"call_origin": "%s", "node_name": "%s"',
    "a number beyond 64 bits": f"[{ROW}]" % f'"call_origin": "%s", "talk_time_sec": {10**30}',
    "a header": "",
}
STATUSES = (200, 400, 401, 403, 404, 418, 429, 500, 503, 302)
#: Every text that the server sends, besides the name.
SENT = f"{KEY} {NUMBERS[1]}"


def response_of(status, form, escape, sent):
    body = FORMS[form].replace("%s", escape(sent))
    headers = {"location": f"https://{quote(sent)}@x.example/{quote(sent)}"} if status == 302 else {}
    if form == "a header":
        headers |= {"x-echo": quote(sent), "retry-after": quote(sent), "content-encoding": quote(sent)}
    return lambda request: httpx.Response(status, headers=headers, stream=httpx.ByteStream(body.encode()))


def ending(respond):
    """The same responses, but 404 from the fifth request on."""
    requests = itertools.count(1)

    def answer(request):
        response = respond(request)
        response.status_code = 404 if next(requests) > 4 else response.status_code
        return response

    return answer


class Events(BaseObserver):
    def __init__(self):
        self.seen = []

    def _note(self, event):
        self.seen.append(repr(event))

    on_stream_started = on_request_finished = on_retry = on_page_accepted = on_stream_finished = _note


async def read_stream(insights, folder):
    return [repr(call) async for call in insights.stream(START, END, fields=Fields.ALL)]


async def read_pages(insights, folder):
    return [repr(page) async for page in insights.stream(START, END, fields=Fields.ALL).pages()]


async def read_arrow(insights, folder):
    # The values of batches are data, not messages.
    return [
        batch.schema.to_string() async for batch in insights.stream(START, END, fields=Fields.ALL).arrow()
    ]


async def read_page(insights, folder):
    return [repr(await insights.page(START, END, fields=Fields.ALL))]


async def get(insights, folder):
    return [repr(await insights.get(1, 2))]


async def follow(insights, folder):
    # It goes on after failures that may pass; `ending` ends it.
    async for call in insights.follow(START, interval=1):
        return [repr(call)]
    return None


async def backfill(insights, folder):
    # Its files of calls hold calls; the others must not.
    try:
        query = InsightsQuery(start_date=START, end_date=END, fields=Fields.ALL)
        report = await Backfill(insights, query, folder, "jsonl").run()
    finally:
        files = [path for path in folder.rglob("*") if path.is_file() and not path.match("*.jsonl*")]
        texts = [path.read_text(errors="replace") for path in files]
        assert leaked(texts) == []
    return [repr(report)]


READERS = {
    function.__name__: function
    for function in (read_stream, read_pages, read_arrow, read_page, get, follow, backfill)
}


def leaked(texts, *, numbers=True):
    """The texts that contain a run of the key, or the digits of a phone number, or the name."""
    runs = {KEY[at : at + 6] for at in range(len(KEY) - 5)}
    runs |= {repr(run)[1:-1] for run in runs}
    leaking = [text for text in texts if any(run in text for run in runs)]
    if numbers:
        leaking += [text for text in texts if "7598455" in re.sub(r"[^\da-zA-Z:;]", "", text) or NAME in text]
    return leaking


def cases(reader):
    """Combinations that hold each status, form and escape, the same at each run; all of them in a nightly run."""
    every = list(itertools.product(STATUSES, FORMS, ESCAPES))
    random.Random(reader).shuffle(every)
    if os.environ.get("HYPOTHESIS_PROFILE") == "nightly":
        return every
    chosen, left = [], {*STATUSES, *FORMS, *ESCAPES}
    for case in every:
        if left.intersection(case):
            chosen.append(case)
            left.difference_update(case)
    return chosen


@pytest.mark.finding("C1", "C2")
@pytest.mark.parametrize("reader", READERS)
async def test_no_canary_is_in_any_output(reader, logs, clock, tmp_path):
    """Given responses with the key and phone numbers, when they are read, then no error, log or event shows them."""
    failed = 0
    for number, (status, form, escape) in enumerate(cases(reader)):
        case = (status, form, escape)
        sent = (
            f"{SENT} {NAME}"
            if status == 200
            and reader != "follow"
            and form not in {"text", "JSON", "nested JSON", "cut JSON"}
            else SENT
        )
        transport = httpx.MockTransport(ending(response_of(status, form, ESCAPES[escape], sent)))
        events, texts = Events(), []
        with use_runtime(fake_runtime(clock)):
            session = AsyncInsights(
                "demo", KEY, base_url="https://rest.iovox.test/v1", transport=transport,
                retry=RetryPolicy(max_attempts=2), observer=events,
            )  # fmt: skip
            async with session as insights:
                logs.clear()
                try:
                    async with asyncio.timeout(20):
                        texts += await READERS[reader](insights, tmp_path / str(number)) or []
                except IovoxError as error:
                    failed += 1
                    in_frames = [*shown(error, HERE)]
                    texts += [str(error), repr(error), repr(error.args), str(error.hint), *error_texts(error)]
                    assert leaked(in_frames) == [], case
                    for link in (error.__cause__, error.__context__):
                        texts += [repr(link), str(link)]
                    texts += [json.dumps(error_response(error).body)]
                    texts += [made.encode_error(error).decode() for made in (NDJSONFormat(), SSEFormat())]
        loud = [line for line in logs if " DEBUG " not in line]
        # httpcore logs whole responses at DEBUG; here it is not used.
        assert leaked(logs, numbers=False) == [], case
        assert leaked([*texts, *events.seen, *loud]) == [], case
    assert failed > 4


def error_texts(error):
    """Texts of an error's attributes and notes."""
    yield from map(repr, getattr(error, "__notes__", ()))
    yield from map(repr, vars(error).values())


@pytest.mark.sweep(4)
@pytest.mark.finding("C1", "C2")
@pytest.mark.parametrize(
    "number", [pytest.param(one, marks=() if one in NUMBERS[1:3] else pytest.mark.slow) for one in NUMBERS]
)
@pytest.mark.parametrize("form", FORMS)
async def test_no_number_is_in_any_error(number, form, logs, clock):
    """Given a phone number in any grouping, form and escape, when read, then no error and no log shows it."""
    for status, escape in itertools.product((200, 400), (str, ESCAPES["HTML"], ESCAPES["JSON, all"])):
        transport = httpx.MockTransport(
            response_of(status, form, escape, f"from {number} at 2024-02-26 04:39:59")
        )
        with use_runtime(fake_runtime(clock)):
            session = AsyncInsights(
                "demo", KEY, base_url="https://rest.iovox.test/v1", transport=transport,
                retry=RetryPolicy(max_attempts=1),
            )  # fmt: skip
            async with session as insights:
                (error,) = await asyncio.gather(
                    insights.page(START, END, fields=Fields.ALL), return_exceptions=True
                )
            if status == 200:
                texts = [repr(error)]
            else:
                assert isinstance(error, IovoxError)
                texts = [str(error), repr(error), *error_texts(error)]
                if escape is str and form in {"text", "JSON", "XML", "HTML"}:
                    assert "2024-02-26 04:39:59" in str(error)
            assert leaked(texts) == []
    assert leaked([line for line in logs if " DEBUG " not in line]) == []


@pytest.mark.sweep(3)
@pytest.mark.finding("C1", "C2")
@pytest.mark.parametrize("form", ["text", "JSON", "data", "a date", "a number in a part", "another row"])
@pytest.mark.parametrize("framework", ["fastapi", "aiohttp"])
async def test_no_canary_is_in_the_response_of_an_application(framework, form, logs, clock):
    """Given responses with the key and phone numbers, when an application fails, then its responses and logs show none."""
    with use_runtime(fake_runtime(clock)):
        for status, escape in ((200, "plain"), (400, "JSON"), (500, "HTML")):
            transport = httpx.MockTransport(response_of(status, form, ESCAPES[escape], SENT))
            url = "https://rest.iovox.test/v1"
            async with (
                serve(framework, url, transport=transport, secure_key=KEY) as site,
                site.connect() as client,
            ):
                for path in ("/calls", "/ids", "/events", "/filtered"):
                    received = b""
                    with contextlib.suppress(httpx.HTTPError):
                        async with client.stream("GET", path) as response:
                            async for chunk in response.aiter_raw():
                                received += chunk
                    assert leaked([received.decode(), repr(response.headers)]) == []
    assert leaked([line for line in logs if line.startswith("iovox_async ")], numbers=False) == []
    assert leaked([line for line in logs if " DEBUG " not in line]) == []


class Answering(BaseHTTPRequestHandler):
    """Sends the same response to every request."""

    def do_GET(self):
        response = self.server.response_of(None)
        self.send_response(response.status_code)
        body = b"".join(response.stream)
        for name, value in (*response.headers.items(), ("content-length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    """A server whose `response_of` a test sets."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.sweep(5)
@pytest.mark.finding("C1", "C2")
@pytest.mark.parametrize(
    "form",
    [
        pytest.param(form, marks=() if form in {"JSON", "data", "a date"} else pytest.mark.slow)
        for form in FORMS
    ],
)
@pytest.mark.parametrize("command", ["calls", "show", "backfill", "follow"])
def test_no_canary_is_in_the_output_of_a_command(command, form, server, logs, clock, tmp_path):
    """Given responses with the key and phone numbers, when a command fails, then no output and no log shows them."""
    arguments = {
        "calls": ["calls", START, END, "--fields", "ALL", "--on-error", "raise"],
        "show": ["show", "7"],
        "follow": ["follow", "--since", START, "--interval", "1", "--fields", "ALL"],
        "backfill": ["backfill", START, END, "--fields", "ALL", "--format", "jsonl", "--out", str(tmp_path / "out")],
    }[command]  # fmt: skip
    environment = {
        "IOVOX_USERNAME": "demo",
        "IOVOX_SECURE_KEY": KEY,
        "IOVOX_URL": f"http://127.0.0.1:{server.server_port}/v1",
        "IOVOX_LOG": "info",
    }
    for status, escape in ((200, "plain"), (401, "JSON"), (503, "HTML")):
        # Following goes on after failures that may pass.
        server.response_of = ending(response_of(status, form, ESCAPES[escape], SENT))
        with use_runtime(fake_runtime(clock)):
            result = CliRunner(env=environment).invoke(iovox, arguments, prog_name="iovox")
        assert result.exit_code in (0, 1, 2, 3, 4), result.output
        if result.exit_code or command == "backfill":
            # A command that succeeds prints calls.
            assert leaked([result.stdout]) == []
        assert leaked([result.stderr]) == []
    assert leaked([line for line in logs if line.startswith("iovox_async ")], numbers=False) == []
    assert leaked([line for line in logs if " DEBUG " not in line]) == []
