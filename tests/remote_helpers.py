"""A local HTTP server that counts its answers, and can refuse, delay and cut them."""

import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Served:
    """Files by path, and the number of times that each was asked for.

    `statuses` has the paths that are answered by an error. The answers to `cut` end too early, and
    those to `silent` never begin.
    """

    def __init__(self, url):
        self.url = url
        self.files = {}
        self.statuses = {}
        self.cut = set()
        self.silent = set()
        self.asked = Counter()
        self.sizes_asked = 0
        self.most_at_once = 0
        self.delay = 0.0
        self.ended = threading.Event()


@contextmanager
def http_server():
    """Serve files on this machine until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        now = 0

        def do_GET(self):
            path = self.path.partition("?")[0].lstrip("/")
            served.asked[path] += 1
            with lock:
                Handler.now += 1
                served.most_at_once = max(served.most_at_once, Handler.now)
            time.sleep(served.delay)
            try:
                self.answer(path)
            finally:
                with lock:
                    Handler.now -= 1

        def do_HEAD(self):
            served.sizes_asked += 1
            self.send_response(405)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def answer(self, path):
            if path in served.silent:
                served.ended.wait(10)
                return
            data = served.files.get(path, b"")
            status = served.statuses.get(path, 200 if path in served.files else 404)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if path in served.cut:
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
            elif status == 200:
                self.wfile.write(data)

        def log_message(self, *args):
            """Print nothing."""

    lock = threading.Lock()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served = Served(f"http://127.0.0.1:{server.server_port}/")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.ended.set()
        server.shutdown()
        server.server_close()
