"""The endpoint's table of errors, row by row, and credentials."""

import httpx
import pytest
from support.sandbox import errors_of

from iovox_async.sandbox import Faults, Sandbox

#: Every row of the endpoint's table of errors: method, parameters, message.
ERRORS = {
    "method-post": ("POST", {}, "Request Method must be GET. POST attempted"),
    "method-put": ("PUT", {}, "Request Method must be GET. PUT attempted"),
    "method-delete": ("DELETE", {}, "Request Method must be GET. DELETE attempted"),
    "order-field": ("GET", {"order": "nothing_DESC"}, "Order Field Invalid"),
    "order-field-answered-name": ("GET", {"order": "talk_time_sec_DESC"}, "Order Field Invalid"),
    "order-direction": ("GET", {"order": "call_start_UP"}, "Order Direction Invalid"),
    "order-direction-missing": ("GET", {"order": "call_start"}, "Order Direction Invalid"),
    "order-direction-small": ("GET", {"order": "call_start_desc"}, "Order Direction Invalid"),
    "page-word": ("GET", {"page": "two"}, "Page number not an integer"),
    "page-fraction": ("GET", {"page": "1.5"}, "Page number not an integer"),
    "page-negative": ("GET", {"page": "-1"}, "Page number not an integer"),
    "limit-word": ("GET", {"limit": "all"}, "Limit not an integer"),
    "limit-zero": ("GET", {"limit": "0"}, "Limit must be between 1 and 20000"),
    "limit-high": ("GET", {"limit": "20001"}, "Limit must be between 1 and 20000"),
    "start-word": ("GET", {"start_date": "yesterday"}, "Start Date invalid"),
    "start-impossible": ("GET", {"start_date": "2024-02-30"}, "Start Date invalid"),
    "start-iso": ("GET", {"start_date": "2024-02-01T10:00:00"}, "Start Date invalid"),
    "end-order": ("GET", {"end_date": "31-01-2024"}, "End Date invalid"),
    "end-impossible": ("GET", {"end_date": "2024-01-31 24:00:00"}, "End Date invalid"),
    "iovox-number": ("GET", {"iovox_number": "+44 800"}, "Iovox Number not an integer"),
    "fields": (
        "GET",
        {"response_fields": "id,fieldone,call_start,fieldtwo"},
        "Required fields olvalid: fieldone, fieldtwo",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_given_an_invalid_request_when_sent_then_the_error_is_as_documented(case, client):
    """Given a request of the table of errors, when it is sent, then status and message are the documented ones."""
    method, params, message = ERRORS[case]
    response = client.request(method, "/calls/insights", params=params)
    assert (response.status_code, errors_of(response)) == (400, [message])


def test_given_several_errors_when_sent_then_one_response_has_them_all(client):
    """Given a request with four errors, when it is sent, then the response lists all of them."""
    response = client.get("/calls/insights", params={"page": "x", "limit": "y", "order": "z_DOWN"})
    assert errors_of(response) == [
        "Page number not an integer",
        "Limit not an integer",
        "Order Direction Invalid",
        "Order Field Invalid",
    ]


def test_given_a_500_when_returned_then_the_message_is_as_documented(client, sandbox):
    """Given a failing request, when it returns 500, then the message is the documented one."""
    sandbox.faults = Faults(fail_after=0)
    try:
        response = client.get("/calls/insights")
    finally:
        sandbox.faults = Faults()
    assert (response.status_code, errors_of(response)) == (500, ["Internal Server Error"])


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"username": "demo"}, id="no-key"),
        pytest.param({"secureKey": "demo-key"}, id="no-user"),
        pytest.param({"username": "demo", "secureKey": "demo"}, id="call_wrongly-key"),
        pytest.param({"username": "Demo", "secureKey": "demo-key"}, id="call_wrongly-user"),
        pytest.param({"authorization": "Basic ZGVtbzpkZW1vLWtleQ=="}, id="another-scheme"),
        pytest.param({"username": "demo", "secureKey": "caf\u00e9".encode()}, id="beyond-ascii"),
    ],
)
def test_given_wrong_credentials_when_requested_then_the_response_is_401(headers, client):
    """Given missing or call_wrongly credentials, when another error is present too, then the response is 401."""
    response = httpx.post(
        str(client.base_url) + "calls/insights", headers=headers, params={"page": "x"}, verify=False
    )
    assert (response.status_code, errors_of(response)) == (401, ["HTTP 401: Unauthorized"])


@pytest.mark.parametrize(
    ("form", "mime", "body"),
    [
        ("json", "application/json", b'{"errors": [{"status": 400, "error": "Limit not an integer"}]}'),
        ("text", "text/plain", b"Limit not an integer"),
    ],
)
def test_given_an_error_format_when_a_request_fails_then_the_body_has_it(form, mime, body, client, sandbox):
    """Given `error_format`, when a request is invalid, then the body has that format."""
    sandbox.faults = Faults(error_format=form)
    try:
        response = client.get("/calls/insights", params={"limit": "x"})
    finally:
        sandbox.faults = Faults()
    assert (response.content, response.headers["content-type"].partition(";")[0]) == (body, mime)


def test_given_another_path_or_method_when_requested_then_it_is_an_error(client):
    """Given another path, when requested, then the response is 404; given HEAD, it is 400."""
    assert client.get("/calls").status_code == 404
    assert client.head("/calls/insights").status_code == 400


def test_given_own_credentials_when_requested_then_only_they_are_accepted():
    """Given a username and a key, when requested, then only they are accepted, and repr does not contain the key."""
    sandbox = Sandbox(calls=3, username="anna", key="s3cret-canary")
    with sandbox.serve() as base_url:
        for key, status in ("s3cret-canary", 200), ("demo-key", 401):
            response = httpx.get(
                f"{base_url}/calls/insights", headers={"username": "anna", "secureKey": key}, verify=False
            )
            assert response.status_code == status
    assert "canary" not in repr(sandbox)
