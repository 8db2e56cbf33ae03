"""A real S3 server on loopback (moto's), which can fail, be away, and do something at a request."""

import logging
import threading

import s3fs
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from moco_tf.files.store import Store


class S3Server:
    """Holds the bucket `bucket`.

    Attributes:
        asked: method and path of every request since the start.
        status: what is answered instead, such as "503 Slow Down"; none: what S3 does.
        before: called with method and path of each request, before anything is done.
    """

    def __init__(self):
        self.asked, self.status, self.before, self.port = [], None, None, 0
        self.start()

    def start(self):
        """Also again, on the same port; what was stored is there."""
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def environment(self):
        """What a process needs to find it; one try a request, so that tests do not take long."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _answer(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.asked.append((method, path))
        if self.before:
            self.before(method, path)
        if self.status:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(self.status, [("Content-Length", "0")])
            return [b""]
        return self._app(environ, start_response)


def files():
    """A file system of the server that the environment names."""
    return s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)


def upload(folder, url):
    """Puts the files of a folder below `url`."""
    store = Store(url, "data")
    for path in folder.iterdir():
        store.put(path, path.name)
