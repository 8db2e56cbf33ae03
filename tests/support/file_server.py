"""A web server on loopback that gives parts of files, and cuts connections when told to."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves `files`, from path to bytes.

    Attributes:
        cuts: for each coming answer, after how many bytes its connection is cut; none: never.
        ranges: whether parts are given at all.
        tags: whether answers say which version of a file they give.
        status: answered to everything; None: what fits.
        asked: (path, Range header or None) of every request.
    """

    def __init__(self):
        self.files, self.cuts, self.asked = {}, [], []
        self.ranges, self.tags, self.status = True, True, None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def stop(self):
        self._http.shutdown()
        self._http.server_close()

    def answer(self, request):
        span = request.headers.get("Range")
        self.asked.append((request.path, span))
        data = self.files.get(request.path)
        if self.status or data is None:
            request.send_error(self.status or 404)
            return
        tag, start = f'"{hashlib.sha256(data).hexdigest()[:12]}"', 0
        if span and self.ranges and request.headers["If-Range"] == tag:
            start = int(span.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(data)}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
        request.send_response(206 if start else 200)
        if self.tags:
            request.send_header("ETag", tag)
        request.send_header("Content-Length", str(len(data) - start))
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.end_headers()
        cut = self.cuts.pop(0) if self.cuts else None
        request.wfile.write(data[start:] if cut is None else data[start : start + cut])
        request.close_connection = True
