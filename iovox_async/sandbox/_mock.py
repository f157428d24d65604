"""Lets the sandbox's application respond to an httpx request without a server, for mocks."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from ._app import SandboxApp


async def respond(app: SandboxApp, request: Any) -> Any:
    """Responds to a request of httpx or httpx2 with a response of the same library."""
    received = False
    start: MutableMapping[str, Any] = {}
    body: list[bytes] = []

    async def receive() -> MutableMapping[str, Any]:
        nonlocal received
        # The application waits for the client to leave only in faults that need a connection.
        message = {"type": "http.disconnect"} if received else {"type": "http.request", "body": b""}
        received = True
        return message

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            body.append(message["body"])

    scope = {
        "type": "http",
        "method": request.method,
        "path": request.url.path,
        "query_string": request.url.query,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
    }
    await app(scope, receive, send)
    library = type(request).__module__.partition(".")[0]
    response_class: Callable[..., Any] = importlib.import_module(library).Response
    return response_class(start["status"], headers=start["headers"], content=b"".join(body))
