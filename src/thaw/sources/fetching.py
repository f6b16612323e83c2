"""Files over HTTP: many at once, retried where a retry may help, resumed where they broke off.

Transient failures (429, 408, 425, 5xx, a reset, a time-out, a body cut short) are retried after a pause that doubles
each time; its jitter keeps many workers from returning at the same moment. All workers wait as long as `Retry-After`
says. A file that is refused (another 4xx) counts as gone after three refusals: overloaded servers and proxies also
refuse files that they have.

The loops are not urllib3.Retry's. It has done its work when the headers are there: a body that breaks off or fails
its check comes later. And it pauses only its own thread.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import requests
import urllib3

from thaw.core.errors import ThawError
from thaw.sources.base import FailingError, UnreachableError

TRANSIENT = {408, 425, 429}  # and all of 5xx
CONFIRMATIONS = 3  # refusals, or bodies that fail their check, before a file is given up
MAX_FIRST_CONTACTS = 3  # attempts at a host that never answered: without a network, the error must not take a minute
MAX_PAUSE = 30.0  # seconds
MAX_RETRY_AFTER = 300.0  # seconds; no server may stop the download for longer at a time
MAX_FAILURES_IN_A_ROW = 50  # files; if all of so many fail, the fault is the server's and not the files'
CHUNK_BYTES = 1 << 20

TransferError = (requests.RequestException, urllib3.exceptions.HTTPError)  # no answer, or one that broke off


class GoneError(ThawError):
    """The server does not have the file."""


class BrokenError(ThawError):
    """The file arrives, but is not what it should be."""


class ChangedError(Exception):
    """The server now has another version of the file than the part that was fetched before."""


class Fetcher:
    """Connections that stay open for `workers` threads, which may all use it at the same time."""

    def __init__(self, workers: int = 1, timeout: float = 20.0, pause: float = 0.5, attempts: int = 8):
        """Open no connection yet.

        Args:
            workers: the number of connections to a host.
            timeout: seconds without a byte.
            pause: seconds before the second attempt; it doubles before each further one.
            attempts: how often a file is requested.
        """
        self.timeout, self.pause, self.attempts = timeout, pause, attempts
        self.session = requests.Session()
        self.session.headers["Accept-Encoding"] = "identity"  # offsets and lengths are those of the file itself
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, requests.adapters.HTTPAdapter(4, pool_maxsize=workers, pool_block=True))
        self._reached: set[str] = set()  # hosts
        self._not_before = 0.0  # time.monotonic() before which no request is sent
        self._failures_in_a_row = 0
        self._fatal: UnreachableError | None = None  # ends all further requests
        self._lock = threading.Lock()

    def get(self, url: str, check: Callable[[bytes], object] = bytes) -> bytes:
        """Return the body of `url` after `check`, which raises ThawError if the body is not what it should be.

        Raises GoneError after CONFIRMATIONS refusals, BrokenError after as many bodies that fail the check, and
        FailingError after all attempts. Raises UnreachableError if the host cannot be reached, or after
        MAX_FAILURES_IN_A_ROW files that failed.
        """
        refusals = broken = 0
        for attempt in range(self.attempts):
            try:
                with self._request(url) as response:
                    body = response.content
            except TransferError as error:
                self._pause(url, attempt, error)
                continue
            if _is_transient(response):
                self._pause(url, attempt, retry_after=_retry_after(response))
                continue
            if response.status_code >= 400:
                refusals += 1
                if refusals == CONFIRMATIONS:
                    raise self._count_failure(url, GoneError("gone from the server"))
                self._pause(url, attempt)
                continue
            try:
                check(body)
            except ThawError as error:
                broken += 1
                if broken == CONFIRMATIONS:
                    is_html = body[:1000].lstrip().startswith(b"<")
                    message = "broken: HTML" if is_html else "broken: does not decode"
                    raise self._count_failure(url, BrokenError(message)) from error
                self._pause(url, attempt)
                continue
            self.count_success()
            return body
        raise self._count_failure(url, FailingError("the server failed at it each time"))

    def count_success(self) -> None:
        """Note that a file is there, fetched or from a cache: the row of failures ends."""
        self._failures_in_a_row = 0

    def stream(self, url: str, offset: int = 0, version: str = "") -> "Stream":
        """Return an iterator over the bytes of `url` from `offset` on, for files too large for memory."""
        return Stream(self, url, offset, version)

    def _request(self, url: str, **options) -> requests.Response:
        if self._fatal:
            raise self._fatal
        time.sleep(max(0.0, self._not_before - time.monotonic()))
        response = self.session.get(url, timeout=self.timeout, **options)
        self._reached.add(urlsplit(url).netloc)
        return response

    def _pause(self, url: str, attempt: int, error: Exception | None = None, retry_after: float = 0.0) -> None:
        """Wait after a failed attempt.

        Args:
            url: was requested.
            attempt: its number, from 0; after the last one, this does not wait.
            error: why there is no answer, if there is none.
            retry_after: seconds in which no worker may send a request.

        Raises:
            UnreachableError: no connection was made, and no further attempt is worthwhile.
        """
        host = urlsplit(url).netloc
        most = self.attempts if host in self._reached else MAX_FIRST_CONTACTS
        if error is not None and _not_connected(error) and attempt + 1 >= most:
            self._fatal = unreachable(host, error)
            raise self._fatal
        if attempt + 1 >= self.attempts:
            return
        if retry_after:
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + retry_after)
        pause = min(MAX_PAUSE, self.pause * 2**attempt)
        time.sleep(random.uniform(pause / 2, pause))

    def _count_failure(self, url: str, error: ThawError) -> ThawError:
        """Count a file that was given up; return the error to raise: `error`, or that the whole server fails."""
        with self._lock:
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                self._fatal = UnreachableError(
                    f"{MAX_FAILURES_IN_A_ROW} files in a row failed, the last being {url} ({error}): the server is out "
                    "of order or the address is wrong; run again to go on with what has arrived"
                )
        return self._fatal or error


class Stream:
    """Iterates over the bytes of a file from `offset` on, and resumes by range requests where the body breaks off.

    The iteration raises ChangedError if `version` is given and the server has another one; and GoneError, FailingError
    and UnreachableError as Fetcher.get does.

    Attributes:
        offset: of the next byte.
        version: identifies the content (entity tag or date, and length); known after the first answer.
        length: of the whole file in bytes, if the server tells it.
    """

    def __init__(self, fetcher: Fetcher, url: str, offset: int, version: str):
        self.url, self.offset, self.version = url, offset, version
        self.length: int | None = None
        self._fetcher = fetcher

    def __iter__(self) -> Iterator[bytes]:
        failures = refusals = 0
        while failures < self._fetcher.attempts:
            before, error, retry_after = self.offset, None, 0.0
            headers = {"Range": f"bytes={self.offset}-"} if self.offset else {}
            try:
                with self._fetcher._request(self.url, stream=True, headers=headers) as response:
                    if response.status_code == 416 and self.offset == _length(response):
                        return
                    if response.status_code < 400 or response.status_code == 416:
                        yield from self._body(response)
                        return
                    retry_after = _retry_after(response)
                    refusals += not _is_transient(response)
            except TransferError as caught:
                error = caught
            if refusals == CONFIRMATIONS:
                raise GoneError(f"{self.url} is not there (status {response.status_code})")
            failures, refusals = (0, 0) if self.offset > before else (failures + 1, refusals)
            self._fetcher._pause(self.url, max(0, failures - 1), error, retry_after)
        total = f" of {self.length:,}" if self.length else ""
        raise FailingError(
            f"{self.url} broke off at byte {self.offset:,}{total} again and again: run again to go on from there"
        )

    def _body(self, response: requests.Response) -> Iterator[bytes]:
        length = _length(response)
        version = f"{response.headers.get('ETag') or response.headers.get('Last-Modified') or ''} {length}"
        if response.status_code == 416 or (self.version and version != self.version):
            raise ChangedError
        self.version, self.length = version, length
        # A server without range requests sends the file from its start.
        skip = 0 if response.headers.get("Content-Range", "").startswith(f"bytes {self.offset}-") else self.offset
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
            skipped = min(skip, len(chunk))
            skip -= skipped
            self.offset += len(chunk) - skipped
            yield chunk[skipped:]


def unreachable(host: str, error: Exception) -> UnreachableError:
    """Return the error for a host that cannot be reached; it says what else a person can do."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return UnreachableError(
        f"{host} was not reached ({error}): check the network, or set download.source: elpv, which runs without one, "
        "or run `dvc pull` where a teammate pushed the data"
    )


def _not_connected(error: BaseException | None) -> bool:
    """Return whether no connection was made at all, in contrast to one that broke."""
    kinds = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
    kinds += (urllib3.exceptions.SSLError, urllib3.exceptions.ProxyError)
    while error is not None:
        reason = getattr(error, "reason", None)  # urllib3's MaxRetryError has its cause there
        if isinstance(error, kinds) or isinstance(reason, kinds):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_transient(response: requests.Response) -> bool:
    return response.status_code in TRANSIENT or response.status_code >= 500


def _retry_after(response: requests.Response) -> float:
    """Return how many seconds the server asks to wait, given as a number or a date; 0 if it does not say."""
    try:
        seconds = urllib3.Retry().parse_retry_after(response.headers.get("Retry-After", "0"))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):  # neither, or absurdly large
        return 0.0
    return min(seconds, MAX_RETRY_AFTER)


def _length(response: requests.Response) -> int | None:
    """Return the length of the whole file, from `Content-Range: bytes 5-9/10` or `Content-Length: 10`."""
    total = response.headers.get("Content-Range", "").rpartition("/")[2] or response.headers.get("Content-Length", "")
    return int(total) if total.isdigit() else None
