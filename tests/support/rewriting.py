"""A transport that changes the rows of the sandbox's responses, for values that the sandbox itself refuses."""

import json

import httpx


class RewritingTransport(httpx.AsyncBaseTransport):
    """Sends requests to an application, and applies a function to each row of its responses.

    The function returns the row, a list of rows, or the row's JSON as bytes.
    """

    def __init__(self, app, change):
        self.inner = httpx.ASGITransport(app)
        self.change = change

    async def handle_async_request(self, request):
        response = await self.inner.handle_async_request(request)
        body = await response.aread()
        if response.status_code != 200:
            return httpx.Response(response.status_code, headers=response.headers, content=body)
        rows = []
        for row in json.loads(body):
            changed = self.change(row)
            rows += changed if isinstance(changed, list) else [changed]
        texts = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        return httpx.Response(
            200, headers={"content-type": "application/json"}, content=b"[%s]" % b",".join(texts)
        )
