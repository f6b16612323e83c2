"""Measure the page of `make try`: how long it takes to start, to answer, and to answer a large batch.

Starting is timed from the start of the process until the page is served. An answer is timed as the browser waits for
it: over HTTP, on one connection, with the photographs of the test split. A batch is sent as the page sends it, four
uploads at a time; its photographs are those of the run, repeated. Floors are measured beside: Python with NumPy and
OpenVINO imported, and the model's network alone. The converted model is there already. Needs a finished `dvc repro`.
"""

import argparse
import concurrent.futures
import http.client
import itertools
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import results  # imports thaw first: it chooses the kernels of other libraries

# isort: split
from thaw.core import tables
from thaw.engines import openvino_setup
from thaw.images.views import network_input
from thaw.prediction import deployed_model
from thaw.serving.shared_network import SharedNetwork

MODEL, CACHE = Path("models/model.keras"), Path("~/.cache/thaw/networks").expanduser()
PARALLEL = 4  # as the page has it
FLOOR = "import numpy, sys; sys.modules['openvino_telemetry'] = None; import openvino"


class Server:
    """The script as a process of its own, until it serves the page."""

    def __init__(self):
        start = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "src/try.py", "--no-browser", "--port", "0"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        line = self.process.stdout.readline()
        if not line:
            sys.exit("src/try.py did not start: run `dvc repro`")
        address = line.split()[1]
        with urllib.request.urlopen(address) as page:
            page.read()
        self.seconds, self.cpu_at_start = time.perf_counter() - start, self.cpu()
        self.host, self.key = address.split("/")[2], address.partition("key=")[2]

    def ask(self, connection: http.client.HTTPConnection, path: str, content: bytes) -> dict:
        connection.request("POST", path, content, {"X-Thaw-Key": self.key})
        answer = json.loads(connection.getresponse().read())
        if "error" in answer:
            sys.exit(answer["error"])
        return answer

    def cpu(self) -> float:
        """Return the CPU seconds of the process so far: they depend little on what else the machine does."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--batch", type=int, default=5000)
    options = parser.parse_args()
    raw = Path("data/raw")
    images = tables.read_images(raw).join(tables.read(Path("data/split.csv"), tables.SPLIT), on="image_id")
    test = [(raw / path).read_bytes() for path in images.filter(split="test")["path"][: options.answers]]
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")

    floors = [timed(lambda: subprocess.run([sys.executable, "-c", FLOOR], check=True)) for _ in range(options.starts)]
    starts, cpu = [], []
    for _ in range(options.starts):
        server = Server()
        starts.append(server.seconds)
        cpu.append(server.cpu_at_start)
        server.close()
    print(f"start: {summary(starts, 's')}, {median(cpu):.2f} s of CPU; floor, imports alone: {summary(floors, 's')}")

    network = openvino_setup.read(deployed_model.converted_network(MODEL, CACHE))
    description = deployed_model.read_description(MODEL)
    outputs = [network.output(deployed_model.OUTPUT).get_node().input_value(0)]
    shared = SharedNetwork(outputs, network.get_parameters(), description.size)
    views = [network_input(content, description.size, description.resize) for content in test]
    shared(views[0])
    alone = [1000 * timed(lambda: shared(view)) for view in views]  # noqa: B023
    print(f"floor, the network alone: {summary(alone, 'ms')}")

    server = Server()
    connection = http.client.HTTPConnection(server.host)
    measured = []
    for path, what in (("/answer", "a full answer, over HTTP"), ("/row", "a row of a table")):
        for content in test[:5]:  # warm up
            server.ask(connection, path, content)
        before = server.cpu()
        times = [1000 * timed(lambda: server.ask(connection, path, content)) for content in test]  # noqa: B023
        cost = 1000 * (server.cpu() - before) / len(test)
        print(f"{path}: {summary(times, 'ms')}, {cost:.0f} ms of CPU; 95 % within {quantiles(times, n=20)[-1]:.0f} ms")
        measured.append((what, f"{cost:.0f} ms", f"{median(times):.0f} ms"))

    contents = [(raw / path).read_bytes() for path in images["path"]]
    queue = itertools.islice(itertools.cycle(contents), options.batch)  # safe for threads, as no generator is

    def upload(_: int) -> int:
        connection, count = http.client.HTTPConnection(server.host), 0
        for content in queue:
            server.ask(connection, "/row", content)
            count += 1
        return count

    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as uploads:
        done = sum(uploads.map(upload, range(PARALLEL)))
    seconds = time.perf_counter() - start
    status = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if "VmHWM" in line) / 1000
    print(f"batch: {done:,} in {seconds:.0f} s, {done / seconds:.0f} a second; peak memory {peak:.0f} MB")
    server.close()
    rows = [
        ("from the start until the page is served", f"{median(cpu):.1f} s", f"{median(starts):.1f} s"),
        ("of which Python, NumPy and OpenVINO are imported", None, f"{median(floors):.1f} s"),
        *measured,
        ("the network alone", None, f"{median(alone):.0f} ms"),
    ]
    results.write("page", ["what", "CPU", "waited, median"], rows)


def timed(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def summary(values: list[float], unit: str) -> str:
    digits = 2 if unit == "s" else 0
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), median(values), max(values)))
    return f"median {middle} {unit} ({low} to {high})"


if __name__ == "__main__":
    main()
