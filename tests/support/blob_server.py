"""Object stores that speak the protocols of Azure Blob Storage and Google Cloud Storage (XML), as far as object_store uses them.

A process of its own, because some functions of deltalake let no other thread run while they wait for the store. Writes its address to
stdout, and ends with its stdin. Objects are kept in memory. Paths begin with a container or bucket; its name decides the protocol.
"""

import re
import sys
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

AZURE_LIST = (
    '<EnumerationResults ContainerName="{bucket}"><Blobs>{items}</Blobs><NextMarker/></EnumerationResults>'
)
AZURE_ITEM = (
    "<Blob><Name>{name}</Name><Properties><Last-Modified>{date}</Last-Modified><Content-Length>{size}</Content-Length>"
    "<Content-Type>application/octet-stream</Content-Type><Etag>{number}</Etag></Properties></Blob>"
)
GOOGLE_LIST = (
    "<ListBucketResult><Name>{bucket}</Name><IsTruncated>false</IsTruncated>{items}</ListBucketResult>"
)
GOOGLE_ITEM = (
    "<Contents><Key>{name}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><Size>{size}</Size>"
    "<ETag>{number}</ETag></Contents>"
)


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    objects: dict = {}  # noqa: RUF012 - shared by all requests
    mutex = threading.Lock()
    written = 0

    def log_message(self, *_):
        """Prints nothing."""

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), "x-ms-version": "2023-11-03", **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_request(self):
        url = urlsplit(self.path)
        bucket, _, name = unquote(url.path).lstrip("/").partition("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.mutex:
            if self.command == "POST":
                self.delete_batch(body)
            elif not name:
                self.list(bucket, {key: values[0] for key, values in parse_qs(url.query).items()})
            elif self.command == "PUT":
                self.put(f"{bucket}/{name}", body)
            elif f"{bucket}/{name}" not in self.objects:
                self.answer(404)
            elif self.command == "DELETE":
                del self.objects[f"{bucket}/{name}"]
                self.answer(202 if bucket == "azure" else 204)
            else:
                self.get(*self.objects[f"{bucket}/{name}"])

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_request  # noqa: N815 - names of the base class

    def put(self, path, body):
        """Writes an object; `If-None-Match: *` of Azure and generation 0 of Google create it only if there is none."""
        create = (
            self.headers.get("If-None-Match") == "*" or self.headers.get("x-goog-if-generation-match") == "0"
        )
        if create and path in self.objects:
            self.answer(*((409, b"BlobAlreadyExists") if path.startswith("azure/") else (412,)))
            return
        type(self).written += 1
        self.objects[path] = (body, self.written)
        self.answer(201, ETag=f'"{self.written}"', x_goog_generation=self.written)

    def delete_batch(self, body):
        """Deletes what the parts of a request to Azure name."""
        paths = re.findall(rb"DELETE /(\S+) HTTP", body)
        for path in paths:
            self.objects.pop(unquote(path.decode()), None)
        part = "--batch\r\nContent-Type: application/http\r\nContent-ID: {}\r\n\r\nHTTP/1.1 202 Accepted\r\nServer: x\r\n\r\n\r\n"
        answer = "".join(map(part.format, range(len(paths)))) + "--batch--\r\n"
        self.answer(202, answer.encode(), Content_Type="multipart/mixed; boundary=batch")

    def get(self, body, number):
        size = len(body)
        headers = {
            "ETag": f'"{number}"',
            "Last_Modified": formatdate(0, usegmt=True),
            "x_goog_generation": number,
            "x_ms_blob_type": "BlockBlob",
        }
        bounds = (self.headers.get("x-ms-range") or self.headers.get("Range") or "").removeprefix("bytes=")
        if not bounds:
            self.answer(200, body, **headers)
            return
        first, _, last = bounds.partition("-")
        start = int(first) if first else max(0, size - int(last))
        stop = min(size, int(last) + 1) if first and last else size
        self.answer(206, body[start:stop], Content_Range=f"bytes {start}-{stop - 1}/{size}", **headers)

    def list(self, bucket, query):
        """Lists the objects of a container or bucket."""
        text, item = (AZURE_LIST, AZURE_ITEM) if bucket == "azure" else (GOOGLE_LIST, GOOGLE_ITEM)
        first, after = query.get("startFrom", ""), query.get("start-after", "")
        names = sorted(
            path.removeprefix(f"{bucket}/") for path in self.objects if path.startswith(f"{bucket}/")
        )
        items = [
            item.format(
                name=escape(name),
                size=len(self.objects[f"{bucket}/{name}"][0]),
                number=self.objects[f"{bucket}/{name}"][1],
                date=formatdate(0, usegmt=True),
            )
            for name in names
            if name.startswith(query.get("prefix", "")) and name >= first and name > after
        ]
        self.answer(
            200, text.format(bucket=bucket, items="".join(items)).encode(), Content_Type="application/xml"
        )


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
