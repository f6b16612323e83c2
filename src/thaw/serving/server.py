"""The server of the page: HTTP on the loopback address alone.

Only who has the key of this start is answered. It stands in the address that the terminal shows. So other users of the
machine, and pages of other sites, get nothing; but a browser that is started with the address has it among its
arguments, which other users may see: `--no-browser` starts none. A request that names another host (DNS rebinding), or
that a page of another origin sends, is refused before that. Uploads stay in memory. Their names never reach the server.
"""

import errno
import hmac
import json
import socket
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from thaw.core.errors import ThawError
from thaw.serving.answers import Photograph

ADDRESS = "127.0.0.1"
HOSTS = ("127.0.0.1", "localhost")  # that a browser on this machine, or behind an SSH tunnel, names
MAX_BYTES = 100_000_000  # of an upload
MAX_UPLOADS = 8  # handled at a time; others wait
BLOCK_BYTES = 1 << 20  # that are read at a time
TIMEOUT = 30  # seconds without a byte, after which an upload has broken off
KEY = "X-Thaw-Key"
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
NO_KEY = "Open the address that `make try` printed: it ends in a key, which is new at each start.\n"

Ask = Callable[[Photograph], dict[str, object]]


class Server(ThreadingHTTPServer):
    """Listens at a port of the loopback address; `show` and `serve_forever` make it answer.

    Args:
        port: 0 for any free one.

    Raises:
        ThawError: the port is in use, or not free to be used.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int):
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ThawError(f"port {port} is in use: take another one, such as --port {port + 1}") from None
            raise ThawError(f"port {port} cannot be used ({error.strerror}): take another one with --port") from None
        self.uploads = threading.BoundedSemaphore(MAX_UPLOADS)
        self.page, self.policy, self.key = b"", "", ""
        self.asked: dict[str, Ask] = {}

    @property
    def address(self) -> str:
        """The address to open, with the key."""
        return f"http://{ADDRESS}:{self.server_address[1]}/?key={self.key}"

    def show(self, page: bytes, policy: str, key: str, asked: dict[str, Ask]) -> None:
        """Set what is served.

        Args:
            page: in HTML.
            policy: the content security policy of the page.
            key: without which nothing is answered.
            asked: path → what answers an upload there.
        """
        self.page, self.policy, self.key, self.asked = page, policy, key, asked

    def handle_error(self, request: socket.socket, client_address: tuple[str, int]) -> None:
        """Say in one line what went wrong with a connection; a browser that goes away is nothing to say."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"try: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT
    wbufsize = -1  # an answer is sent at once: in two parts, the second would wait for the receipt of the first
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if not self._is_own():
            return
        if url.path != "/":
            self._send_text(HTTPStatus.NOT_FOUND, "There is one page: /\n")
        elif not self._has_key(parse_qs(url.query).get("key", [""])[0]):
            self._send_text(HTTPStatus.FORBIDDEN, NO_KEY)
        else:
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)

    do_HEAD = do_GET  # noqa: N815 - as above

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        self.close_connection = True  # unless the whole upload is read
        if not self._is_own():
            return
        if not self._has_key(self.headers.get(KEY, "")):
            self._send_text(HTTPStatus.FORBIDDEN, NO_KEY)
        elif url.path not in self.server.asked:
            self._send_text(HTTPStatus.NOT_FOUND, "Nothing is asked here.\n")
        elif not (length := self.headers.get("Content-Length", "")).isdecimal():
            self._send_text(HTTPStatus.LENGTH_REQUIRED, "The request does not say how long it is.\n")
        elif int(length) > MAX_BYTES:
            self._send_text(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"Over {MAX_BYTES / 1e6:.0f} MB.\n")
        else:
            with self.server.uploads:
                self._answer(self.server.asked[url.path], int(length), parse_qs(url.query).get("ending", [""])[0])

    def _answer(self, ask: Ask, length: int, ending: str) -> None:
        content = self._read(length)
        if len(content) < length:
            print(
                f"try: an upload broke off after {len(content):,} of {length:,} bytes; nothing of it was kept",
                file=sys.stderr, flush=True,
            )  # fmt: skip
            return
        self.close_connection = False
        try:
            answer = ask(Photograph(content, ending.lower()))
        except Exception as error:  # the server goes on, whatever was wrong with this one
            answer = {"error": f"the server failed ({type(error).__name__}: {error})"}
            print(f"try: {answer['error']}", file=sys.stderr, flush=True)
        self._send(HTTPStatus.OK, "application/json", json.dumps(answer, ensure_ascii=False).encode())

    def _read(self, length: int) -> bytes:
        """Return the upload; less than its length if it breaks off."""
        content = bytearray()
        try:
            while len(content) < length and (block := self.rfile.read1(min(BLOCK_BYTES, length - len(content)))):
                content += block
        except (ConnectionError, TimeoutError):
            pass
        return bytes(content)

    def _is_own(self) -> bool:
        """Return whether a request is for this server and, if it asks something, by its own page; else refuse it.

        A link on another site may open the page: it needs the key.
        """
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin", f"http://{host}")
        site = self.headers.get("Sec-Fetch-Site", "none")
        is_page = origin == f"http://{host}" and site in ("none", "same-origin")
        if host.partition(":")[0] in HOSTS and (is_page or self.command != "POST"):
            return True
        self.close_connection = True
        self._send_text(HTTPStatus.FORBIDDEN, "This page answers to its own address alone.\n")
        return False

    def _has_key(self, key: str) -> bool:
        return hmac.compare_digest(key.encode(), self.server.key.encode())

    def _send_text(self, status: HTTPStatus, text: str) -> None:
        self._send(status, "text/plain; charset=utf-8", text.encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        headers = HEADERS | {"Content-Security-Policy": self.server.policy, "Content-Type": kind}
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def version_string(self) -> str:
        return "thaw"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: http.server would print each request."""
