"""Headless Chromium for tests, asked through two pipes in its DevTools protocol; nothing else is needed."""

import base64
import fcntl
import json
import os
import select
import subprocess
import time
from pathlib import Path


def _moved(descriptor: int) -> int:
    """Return a copy of a file descriptor above 3 and 4, which Chromium takes for its pipes."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved


class Browser:
    """A page of Chromium. It keeps what the page requests and what it complains of.

    Attributes:
        requested: the addresses that pages requested, in their order.
        complaints: what the console, the log and uncaught errors say.
    """

    def __init__(self, profile: Path, *options: str):
        commands, self._commands = map(_moved, os.pipe())
        self._events, events = map(_moved, os.pipe())
        self._process = subprocess.Popen(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--mute-audio",
             "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
             f"--user-data-dir={profile}", *options, "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False,
            preexec_fn=lambda: (os.dup2(commands, 3), os.dup2(events, 4)),
        )  # fmt: skip
        os.close(commands)
        os.close(events)
        self._received, self._number, self._session = b"", 0, None
        self.requested, self.complaints, self.downloads = [], [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters) -> dict:
        """Call a method of the protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        return self._until(lambda received: received.get("id") == self._number)["result"]

    def open(self, address: str) -> None:
        """Go to an address and wait until its page is loaded."""
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str, gesture: bool = False):
        """Return the value of a JavaScript expression; a promise is waited for. `gesture`: as if a person did it."""
        result = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=gesture
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < end, f"{condition} stays false; {self.complaints}"
            time.sleep(0.02)

    def give(self, selector: str, *files: Path) -> None:
        """Choose files in an input for files."""
        node = self.call("Runtime.evaluate", expression=f"document.querySelector('{selector}')")["result"]["objectId"]
        self.call("DOM.setFileInputFiles", objectId=node, files=[str(file) for file in files])

    def press(self, key: str, code: int) -> None:
        """Press and release a key."""
        text = {"Enter": "\r", " ": " "}.get(key)
        press = {"key": key, "code": key, "windowsVirtualKeyCode": code} | ({"text": text} if text else {})
        self.call("Input.dispatchKeyEvent", type="keyDown", **press)
        self.call("Input.dispatchKeyEvent", type="keyUp", **press)

    def emulate(self, width: int, height: int, scale: float = 1, phone: bool = False, **media: str) -> None:
        """Show the page as on a screen of this size, with media features such as `prefers_color_scheme="dark"`."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path: Path) -> None:
        """Write the whole page as a PNG file."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(picture))

    def close(self) -> None:
        os.close(self._commands)
        os.close(self._events)
        self._process.terminate()
        self._process.wait(20)

    def _until(self, is_wanted) -> dict:
        while True:
            while b"\0" not in self._received:
                assert select.select([self._events], [], [], 60)[0], "Chromium does not answer"
                self._received += os.read(self._events, 1 << 16)
            message, _, self._received = self._received.partition(b"\0")
            message = json.loads(message)
            if is_wanted(message):
                assert "error" not in message, message
                return message
            self._note(message.get("method"), message.get("params"))

    def _note(self, method: str | None, event: dict | None) -> None:
        if method == "Network.requestWillBeSent":
            self.requested.append(event["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(event["exceptionDetails"])
        elif method == "Log.entryAdded":
            self.complaints.append(event["entry"])
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append([argument.get("value") for argument in event["args"]])
