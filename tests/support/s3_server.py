"""An S3 server in a process of its own, which can be made unavailable; writes its address to stdout, and ends when its stdin is closed.

It is a process because some functions of deltalake let no other thread run while they wait for the store. `GET /outage?after=3&requests=5`
makes it answer 503 to 5 requests after the next 3, and is answered with how many requests were answered by 503 since the last one.
"""

import sys
import threading
from urllib.parse import parse_qsl

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

UNAVAILABLE = b'<?xml version="1.0"?><Error><Code>ServiceUnavailable</Code><Message>Reduce your request rate.</Message></Error>'


class Unavailable:
    """A WSGI application that answers 503 for some requests in place of another.

    Args:
        app: the other application.
    """

    def __init__(self, app):
        self._app = app
        self._lock = threading.Lock()
        self._after = self._requests = self._refused = 0

    def __call__(self, environ, start_response):
        with self._lock:
            if environ["PATH_INFO"] == "/outage":
                refused, self._refused = self._refused, 0
                numbers = {name: int(value) for name, value in parse_qsl(environ["QUERY_STRING"])}
                self._after, self._requests = numbers["after"], numbers["requests"]
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [str(refused).encode()]
            self._after -= 1
            unavailable = self._after < 0 < self._requests
            self._requests -= unavailable
            self._refused += unavailable
        if not unavailable:
            return self._app(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("503 Service Unavailable", [("Content-Type", "application/xml")])
        return [UNAVAILABLE]


def main():
    app = Unavailable(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write("http://{}:{}\n".format(*server.server_address[:2]))
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
