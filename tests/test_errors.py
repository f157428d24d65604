"""Tests of the exception hierarchy: documentation, pickling, messages and hints."""

import importlib
import pickle
import re
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

import iovox_async
from iovox_async import errors
from iovox_async.retry import parse_retry_after

ERROR_CLASSES = sorted(
    (
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.IovoxError)
    ),
    key=lambda kind: kind.__name__,
)
FACTORIES = {
    errors.QueryError: lambda: errors.QueryError("limit", "must be from 1 to 20000", "Choose another."),
    errors.ConfigurationError: lambda: errors.ConfigurationError("timeout", "must be positive, got 0"),
    errors.MissingExtraError: lambda: errors.MissingExtraError("Arrow", "arrow"),
    errors.RecordError: lambda: errors.RecordError(17, "$[17].call_start", "it is no date"),
    errors.UnexpectedRedirectError: lambda: errors.UnexpectedRedirectError(302, "https://elsewhere.example"),
    **{
        kind: lambda kind=kind: kind(
            (kind is errors.BadRequestError and 400) or 503,
            ("message",),
        )
        for kind in ERROR_CLASSES
        if issubclass(kind, errors.ResponseError) and kind is not errors.UnexpectedRedirectError
    },
}


def create(kind):
    return FACTORIES.get(kind, lambda: kind("message"))()


@pytest.mark.parametrize("kind", ERROR_CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_can_be_pickled(kind):
    """Given an error with attributes, when it is pickled and loaded, then message and attributes are equal."""
    error = create(kind)
    error.position = "1a-somewhere"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert again.args == error.args


@pytest.mark.parametrize("kind", ERROR_CLASSES, ids=lambda kind: kind.__name__)
def test_the_module_docstring_shows_every_error_below_its_base(kind):
    """Given an error class, then the docstring of the module lists it one level below its base class."""
    lines = errors.__doc__.splitlines()
    names = {
        line.split()[0]: len(line) - len(line.lstrip())
        for line in lines
        if line.startswith(("      ", "    Iovox"))
    }
    assert kind.__name__ in names
    base = kind.__mro__[1]
    if kind is not errors.IovoxError:
        assert names[kind.__name__] == names[base.__name__] + 2


@pytest.mark.parametrize("kind", ERROR_CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_public(kind):
    """Given an error class, then it can be imported from the package."""
    assert getattr(iovox_async, kind.__name__) is kind
    assert kind.__name__ in errors.__all__


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.ConfigurationError, ValueError),
        (errors.QueryError, ValueError),
        (errors.SessionError, RuntimeError),
        (errors.MissingExtraError, ImportError),
    ],
    ids=lambda kind: kind.__name__,
)
def test_caller_errors_are_also_builtin_exceptions(kind, builtin):
    """Given an error of the caller, then it is also the builtin exception that fits."""
    assert issubclass(kind, builtin)


def test_a_missing_extra_names_its_packages_and_the_install_command():
    """Given a missing extra, then the message has the packages as in pyproject.toml, and the install command."""
    message = str(errors.MissingExtraError("iovox_async.integrations.dask", "dask"))
    assert message == (
        "iovox_async.integrations.dask needs the extra dask (dask[dataframe], distributed, numpy, pyarrow). "
        'Install it with: pip install "iovox-async[dask]"'
    )
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extras = {
        extra: tuple(re.match(r"[\w-]+(\[\w+\])?", package)[0] for package in packages)
        for extra, packages in project["optional-dependencies"].items()
        if extra not in {"all", "dev"}
    }
    assert extras == errors.EXTRAS


@pytest.mark.parametrize(
    ("integration", "package"),
    [
        ("aiohttp", "aiohttp"),
        ("dask", "dask.dataframe"),
        ("dlt", "dlt"),
        ("fastapi", "fastapi"),
        ("otel", "opentelemetry"),
    ],
)
def test_each_integration_names_its_missing_extra(integration, package, monkeypatch):
    """Given a framework that is not installed, when its integration is imported, then the error names the extra."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"iovox_async.integrations.{integration}", raising=False)
    with pytest.raises(errors.MissingExtraError) as caught:
        importlib.import_module(f"iovox_async.integrations.{integration}")
    assert str(caught.value).startswith(
        f"iovox_async.integrations.{integration} needs the extra {integration} ("
    )
    assert caught.value.extra == integration
    assert isinstance(caught.value.__cause__, ImportError)


def test_a_request_error_has_attempts_window_and_page_in_its_message():
    """Given attempts, window and page, when they are set on an error, then its message has them."""
    error = errors.ServerError(500, ("Internal Server Error",))
    assert str(error) == "HTTP 500: Internal Server Error. The server failed; try again later."
    error.attempts, error.window, error.page = 5, (datetime(2024, 1, 1), datetime(2024, 1, 2)), 1
    assert str(error) == (
        "HTTP 500: Internal Server Error after 5 attempts (window 2024-01-01 00:00:00 .. 2024-01-02 00:00:00, page 1). "
        "The server failed; try again later."
    )


@pytest.mark.parametrize(
    ("message", "parameter", "hint"),
    [
        ("Request Method must be GET. POST attempted", None, "GET"),
        ("Order Field Invalid", "order", "allowed fields"),
        ("Order Direction Invalid", "order", "_ASC or _DESC"),
        ("Page number not an integer", "page", "non-numerics"),
        ("Limit not an integer", "limit", "non-numerics"),
        ("Limit must be between 1 and 20000", "limit", "20000"),
        ("Start Date invalid", "start_date", "start_date"),
        ("End Date invalid", "end_date", "end_date"),
        ("Iovox Number not an integer", "iovox_number", "digits"),
        ("Required fields olvalid: fieldone, fieldtwo", "response_fields", "invalid fields"),
        ("Something new", None, "Correct the request"),
    ],
)
def test_a_bad_request_has_the_parameter_and_hint_of_the_endpoints_table(message, parameter, hint):
    """Given a message of the endpoint's error table, then the error has its parameter and hint."""
    error = errors.BadRequestError(400, (message,))
    assert error.parameter == parameter
    assert hint in error.hint
    assert error.hint in str(error)


def test_a_status_in_the_servers_message_is_not_repeated():
    """Given a server message that begins with the status, then the error's message has it once."""
    error = errors.AuthenticationError(401, ("HTTP 401: Unauthorized",))
    assert str(error).startswith("HTTP 401: Unauthorized")
    assert error.messages == ("HTTP 401: Unauthorized",)


def test_an_authentication_error_mentions_the_ip_address_list():
    """Given a 401, then the hint mentions the list of IP addresses."""
    assert "IP addresses" in str(errors.AuthenticationError(401))


def test_a_retry_after_is_part_of_the_hint():
    """Given a Retry-After, then the hint has its length."""
    assert "Wait 900 seconds" in str(errors.RateLimitError(429, retry_after=900.0))


@pytest.mark.finding("D9")
@pytest.mark.parametrize(
    ("header", "wait"),
    [("9" * 400, "a wait without an end"), ("5000000", "Wait 5,000,000 sec")],
)
def test_a_retry_after_of_any_length_reads_as_a_sentence(header, wait):
    """Given an endless or very long Retry-After, then the hint says so in words and whole seconds."""
    error = errors.ServerError(503, retry_after=parse_retry_after(header, datetime.now(UTC)))
    assert wait in error.hint
    assert "inf" not in str(error)


async def test_an_error_is_in_no_cycle_of_causes(open_session):
    """Given a failed request, when its causes and contexts are followed, then there is no cycle."""

    class Down(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            raise httpx.ConnectError("refused") from OSError("refused")

    async with open_session(transport=Down()) as insights:
        with pytest.raises(errors.TransportError) as caught:
            await insights.page("2024-01-01", "2024-01-02")
    todo, seen = [(caught.value, ())], []
    while todo:
        error, path = todo.pop()
        assert error not in path, "a cycle"
        seen.append(error)
        inside = [arg for arg in error.args if isinstance(arg, BaseException)]
        todo += [
            (one, (*path, error)) for one in (error.__cause__, error.__context__, *inside) if one is not None
        ]
    assert len(seen) > 2
