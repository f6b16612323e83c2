"""A local replica of the two servers of Open Images: its paths, its tables, drawn photographs, and chosen faults."""

import contextlib
import csv
import hashlib
import io
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

BY = "https://creativecommons.org/licenses/by/2.0/"
LABELS = "ImageID,Source,LabelName,Confidence"
IMAGES = (
    "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,"
    "Thumbnail300KURL,Rotation"
)
FAULTS = ("404", "403", "429", "503", "reset", "truncated", "damaged", "stall", "html")


@dataclass
class Data:
    """The content of a replica: `labels` by subset as (image id, class id, confidence), rotations by image id."""

    classes: dict[str, str]  # display names by class id
    labels: dict[str, list[tuple[str, str, str]]]
    rotations: dict[str, str] = field(default_factory=dict)
    photographs: dict[str, bytes] = field(default_factory=dict)  # by `subset/id`; missing ones are drawn

    def files(self) -> dict[str, bytes]:
        """Every table by its path on the server."""
        rows = "".join(f"{id},{name}\n" for id, name in self.classes.items())
        files = {"/v5/class-descriptions-boxable.csv": rows.encode()}
        for subset, labels in self.labels.items():
            rows = [LABELS, *(f"{image},verification,{label},{confidence}" for image, label, confidence in labels)]
            files[f"/v5/{subset}-annotations-human-imagelabels-boxable.csv"] = ("\n".join(rows) + "\n").encode()
            boxable = "-boxable" if subset == "train" else ""
            table = io.StringIO()
            table.write(IMAGES + "\n")
            writer = csv.writer(table, lineterminator="\n")
            for image in dict.fromkeys(row[0] for row in labels):
                page, profile = f"https://www.flickr.com/photos/x/{image}", "https://www.flickr.com/people/x/"
                title = f'A "fine" day,\nwith {image}'  # quotes, a comma and a line break: all that is awkward in CSV
                rotation = self.rotations.get(image, "")
                writer.writerow(
                    [image, subset, f"{page}.jpg", page, BY, profile, f"Ann, {image}", title, 9, "", "", rotation]
                )
            files[f"/2018_04/{subset}/{subset}-images{boxable}-with-rotation.csv"] = table.getvalue().encode()
        return files

    def photograph(self, name: str) -> bytes | None:
        """Return the JPEG of `subset/id`, or None if there is no such image."""
        subset, _, image = name.partition("/")
        if name not in self.photographs and image in {row[0] for row in self.labels.get(subset, [])}:
            self.photographs[name] = draw(image)
        return self.photographs.get(name)


def draw(image_id: str) -> bytes:
    """Return a JPEG of 48 × 32 pixels: a coarse pattern drawn from the id, red in the top left corner."""
    rng = np.random.default_rng(list(hashlib.sha256(image_id.encode()).digest()[:8]))
    pixels = cv2.resize(rng.integers(0, 128, (4, 6, 3), np.uint8), (48, 32), interpolation=cv2.INTER_CUBIC)
    pixels[:12, :12] = (0, 0, 255)  # OpenCV's order is blue, green, red
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


class Replica:
    """A server of `data`; inside its context, it answers below `url`.

    `fault(path, count)` returns the fault of the `count`-th request (from 1) for a path: one of FAULTS, or None. Tests
    may change `files` at any time. `requests` counts by path; `ranges` lists the `Range` headers of all requests.
    """

    def __init__(self, data: Data, fault: Callable[[str, int], str | None] = lambda path, count: None):
        self.data, self.fault = data, fault
        self.has_ranges = True
        self.retry_after = "0"
        self.delay = 0.0  # seconds before each answer
        self.files = data.files()
        self.requests: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> "Replica":
        handler = type("Handler", (_Handler,), {"replica": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def count(self, path: str) -> int:
        with self._lock:
            self.requests[path] += 1
            return self.requests[path]

    def body(self, path: str) -> bytes | None:
        if path in self.files:
            return self.files[path]
        return self.data.photograph(path.removeprefix("/").removesuffix(".jpg")) if path.endswith(".jpg") else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    replica: Replica

    def do_GET(self) -> None:
        replica = self.replica
        fault = replica.fault(self.path, replica.count(self.path))
        body = replica.body(self.path)
        replica.closing.wait(replica.delay)
        if fault in ("404", "403", "429", "503") or body is None:
            self.answer(
                int(fault or 404), b"<html>no</html>", {"Retry-After": replica.retry_after} if fault == "429" else {}
            )
        elif fault == "html":
            self.answer(200, b"<!DOCTYPE html><html>Sign in to this network</html>")
        elif fault == "damaged":  # a complete answer with half of the file
            self.answer(200, body[: len(body) // 2])
        else:
            self.send(body, fault)

    def send(self, body: bytes, fault: str | None) -> None:
        headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"'}
        requested = self.headers.get("Range", "")
        start = int(requested.removeprefix("bytes=").removesuffix("-")) if requested and self.replica.has_ranges else 0
        if requested:
            self.replica.ranges.append(requested)
        if start >= len(body):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        rest = body[start:]
        stop = len(rest) // 2 if fault else len(rest)
        self.answer(206 if start else 200, rest[:stop], headers, length=len(rest))
        if fault == "stall":
            self.wfile.flush()
            self.replica.closing.wait(60)
        if fault == "reset":
            self.connection.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # SO_LINGER of 0: close by RST
            self.connection.close()
        if fault:
            self.close_connection = True

    def answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body) if length is None else length), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the client was killed, or its time is over
            self.close_connection = True

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *_) -> None:
        pass
