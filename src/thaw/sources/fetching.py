"""Files over HTTP that arrive: many at once, tried again where that may help, gone on with where they broke off.

What is worth another try (429, 408, 425, 5xx, a reset, a time-out, a body cut short) is tried again after a pause
that doubles each time, with jitter so that many workers do not return at once; `Retry-After` is honoured by all
workers. What the server refuses (another 4xx) counts as gone only when it said so three times: loaded servers and
proxies also refuse files that they have.
"""

import email.utils
import random
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import requests
import urllib3

from thaw.errors import ThawError

TRANSIENT = {408, 425, 429}  # and all of 5xx
CONFIRMATIONS = 3  # times that a refusal, or a body that does not pass its check, is believed
FIRST_CONTACT = 3  # attempts at a host that never answered: without a network the error should not take a minute
LONGEST_PAUSE = 30.0  # seconds
LONGEST_RETRY_AFTER = 300.0  # seconds; no server may halt the download for longer than this at a time
FAILURES_IN_A_ROW = 50  # files of which none arrived: the server is at fault, not the files


class UnreachableError(ThawError):
    """The network or the server fails as a whole: nothing more can be fetched."""


class GoneError(ThawError):
    """The server does not have the file."""


class BrokenError(ThawError):
    """The file arrives, but is not what it should be."""


class FailingError(ThawError):
    """The server failed at this file each time it was asked."""


class ChangedError(Exception):
    """What the server sends now is another version of the file than the part that is already here."""


class Fetcher:
    """Connections kept open for `workers` threads; safe to share among them."""

    def __init__(self, workers: int = 1, timeout: float = 20.0, pause: float = 0.5, attempts: int = 8):
        """`timeout`: seconds without a byte; `pause`: seconds before the second of `attempts`, doubled from there."""
        self.timeout, self.pause, self.attempts = timeout, pause, attempts
        self.session = requests.Session()
        self.session.headers["Accept-Encoding"] = "identity"  # offsets and lengths are those of the file itself
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, requests.adapters.HTTPAdapter(4, pool_maxsize=workers, pool_block=True))
        self._answered: set[str] = set()  # hosts
        self._not_before = 0.0  # time.monotonic() before which no request is sent
        self._failures_in_a_row = 0
        self._stop: UnreachableError | None = None
        self._lock = threading.Lock()

    def get(self, url: str, check: Callable[[bytes], object] = bytes) -> bytes:
        """Return the body of `url` that passes `check`, which raises ThawError on one that does not.

        Raises GoneError, BrokenError or FailingError after the attempts that each is worth, and UnreachableError
        where the host cannot be reached or FAILURES_IN_A_ROW files failed.
        """
        refused = damaged = 0
        for attempt in range(self.attempts):
            try:
                with self._request(url) as response:
                    body = response.content
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                self._pause(url, attempt, error)
                continue
            if _is_transient(response):
                self._pause(url, attempt, None, _retry_after(response))
                continue
            if response.status_code >= 400:
                refused += 1
                if refused == CONFIRMATIONS:
                    raise self._count(url, GoneError("gone from the server"))
                self._pause(url, attempt)
                continue
            try:
                check(body)
            except ThawError as error:
                damaged += 1
                if damaged == CONFIRMATIONS:
                    html = body[:1000].lstrip()[:1] == b"<"
                    raise self._count(
                        url, BrokenError("broken: HTML" if html else "broken: does not decode")
                    ) from error
                self._pause(url, attempt)
                continue
            self.arrived()
            return body
        raise self._count(url, FailingError("the server failed at it each time"))

    def arrived(self) -> None:
        """Note that a file is there, as one from a cache is: those that failed before it are in no row any more."""
        self._failures_in_a_row = 0

    def stream(self, url: str, offset: int = 0, version: str = "") -> "Stream":
        """Return the bytes of `url` from `offset` on, for files too large to hold."""
        return Stream(self, url, offset, version)

    def _request(self, url: str, **options) -> requests.Response:
        if self._stop:
            raise self._stop
        time.sleep(max(0.0, self._not_before - time.monotonic()))
        response = self.session.get(url, timeout=self.timeout, **options)
        self._answered.add(urlsplit(url).netloc)
        return response

    def _pause(self, url: str, attempt: int, error: Exception | None = None, retry_after: float = 0.0) -> None:
        """Wait before the attempt after `attempt` (from 0), or raise UnreachableError where there is no use in one."""
        host = urlsplit(url).netloc
        last = self.attempts if host in self._answered else FIRST_CONTACT
        if error is not None and _not_connected(error) and attempt + 1 >= last:
            self._stop = unreachable(host, error)
            raise self._stop
        if attempt + 1 >= self.attempts:
            return
        if retry_after:
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + retry_after)
        pause = min(LONGEST_PAUSE, self.pause * 2**attempt)
        time.sleep(random.uniform(pause / 2, pause))

    def _count(self, url: str, error: ThawError) -> ThawError:
        """Count a file that failed for good; the error to raise is `error`, or that the whole server fails."""
        with self._lock:
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= FAILURES_IN_A_ROW:
                self._stop = UnreachableError(
                    f"{FAILURES_IN_A_ROW} files in a row failed, the last being {url} ({error}): the server is out of "
                    "order or the address is wrong; run again to go on with what has arrived"
                )
        return self._stop or error


class Stream:
    """Iterates over the bytes of a file from `offset` on, going on by range requests where the body breaks off.

    `version` identifies the bytes (entity tag or date, and length) once the first answer is there, `length` is the
    file's whole length in bytes where the server tells it, `offset` that of the next byte. Given a version, the
    iteration raises ChangedError where the server has another one. It raises GoneError, FailingError and
    UnreachableError as Fetcher.get does.
    """

    def __init__(self, fetcher: Fetcher, url: str, offset: int, version: str):
        self.url, self.offset, self.version = url, offset, version
        self.length: int | None = None
        self._fetcher = fetcher

    def __iter__(self) -> Iterator[bytes]:
        failures = refused = 0
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
                    refused += not _is_transient(response)
            except (requests.RequestException, urllib3.exceptions.HTTPError) as caught:
                error = caught
            if refused == CONFIRMATIONS:
                raise GoneError(f"{self.url} is not there (status {response.status_code})")
            failures, refused = (0, 0) if self.offset > before else (failures + 1, refused)
            self._fetcher._pause(self.url, max(0, failures - 1), error, retry_after)
        of = f" of {self.length:,}" if self.length else ""
        raise FailingError(
            f"{self.url} broke off at byte {self.offset:,}{of} again and again: run again to go on from there"
        )

    def _body(self, response: requests.Response) -> Iterator[bytes]:
        length = _length(response)
        version = f"{response.headers.get('ETag') or response.headers.get('Last-Modified') or ''} {length}"
        if response.status_code == 416 or (self.version and version != self.version):
            raise ChangedError
        self.version, self.length = version, length
        # A server without ranges sends the file from its front.
        skip = 0 if response.headers.get("Content-Range", "").startswith(f"bytes {self.offset}-") else self.offset
        while chunk := response.raw.read1(1 << 20, decode_content=False):
            seen, skip = min(skip, len(chunk)), max(0, skip - len(chunk))
            self.offset += len(chunk) - seen
            yield chunk[seen:]


def unreachable(host: str, error: Exception) -> UnreachableError:
    """The error for a host that was not reached: what else there is to do."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return UnreachableError(
        f"{host} was not reached ({error}): mend the network, or set download.source: elpv, which runs without one, "
        "or run `dvc pull` where a teammate pushed the data"
    )


def _not_connected(error: BaseException | None) -> bool:
    """Whether no connection came about at all, as opposed to one that broke."""
    kinds = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
    kinds += (urllib3.exceptions.SSLError, urllib3.exceptions.ProxyError)
    while error is not None:
        reason = getattr(error, "reason", None)  # urllib3's MaxRetryError keeps its cause there
        if isinstance(error, kinds) or isinstance(reason, kinds):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_transient(response: requests.Response) -> bool:
    return response.status_code in TRANSIENT or response.status_code >= 500


def _retry_after(response: requests.Response) -> float:
    """Seconds that the server asks to wait, from a number or a date; 0 where it does not say."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        seconds = float(value)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


def _length(response: requests.Response) -> int | None:
    """The length of the whole file, from `Content-Range: bytes 5-9/10` or `Content-Length: 10`."""
    total = response.headers.get("Content-Range", "").rpartition("/")[2] or response.headers.get("Content-Length", "")
    return int(total) if total.isdigit() else None
