"""The page on which a model is tried: the real script, over real HTTP, on a finished run; and in a real browser."""

import concurrent.futures
import contextlib
import csv
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from base64 import b64decode, b64encode
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from dependencies import SRC, closure
from PIL import Image

from thaw.serving import server as page_server

needs_chromium = pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium is installed")


class Server:
    """The script, started in the folder of a run."""

    def __init__(self, folder: Path, scratch: Path, *options: str):
        self.complaints = scratch / "stderr"
        self.temporary = scratch / "temporary"  # where anything that is written for a moment would lie
        self.temporary.mkdir(parents=True)
        command = [sys.executable, "src/try.py", "--no-browser", "--port", "0", "--cache", str(scratch / "cache")]
        environment = os.environ | {"TMPDIR": str(self.temporary)}
        with self.complaints.open("w") as complaints:
            self.process = subprocess.Popen(
                [*command, *options], cwd=folder, stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment
            )
        line = self.process.stdout.readline()
        assert line, self.complaints.read_text()
        self.address = line.split()[1]
        self.port, self.key = int(re.search(r":(\d+)/", self.address)[1]), self.address.partition("key=")[2]

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str):
        """Return the response, its body read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)
            response = connection.getresponse()
            response.content = response.read()
            return response

    def ask(self, path: str, content: bytes) -> dict:
        response = self.request("POST", path, content, X_Thaw_Key=self.key)
        assert response.status == 200, response.content
        return json.loads(response.content)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def server(run_dir, tmp_path_factory):
    scratch = tmp_path_factory.mktemp("try")
    before = snapshot(run_dir)
    server = Server(run_dir, scratch)
    yield server
    assert server.stop() == 0, server.complaints.read_text()
    assert snapshot(run_dir) == before and not snapshot(server.temporary)  # no picture was written


@pytest.fixture(scope="module")
def photographs(run_dir):
    return sorted((run_dir / "data/raw/images").iterdir())


def png(width: int, height: int) -> bytes:
    """A PNG file of one bit a pixel, all black, as small as it can be."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packed = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def noise() -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(content, "PNG")
    return content.getvalue()


NOISE = noise()


def close(row: dict) -> dict:
    """Distances are of sums over 32 photographs at a time in `predict`: the last digit may differ."""
    return {name: pytest.approx(float(value), abs=2e-6) if name == "distance" and value else value
            for name, value in row.items()}  # fmt: skip


# --- What is answered ---


def test_rows_are_those_of_predict(server, run_dir, photographs):
    share = json.loads(facts(server))["far"]
    predicted = subprocess.run(
        [sys.executable, "src/predict.py", "--json", "--far", str(share), "--cache", server.temporary.parent / "cache",
         *photographs],
        cwd=run_dir, capture_output=True, text=True, check=True,
    )  # fmt: skip
    expected = [json.loads(line) for line in predicted.stdout.splitlines()]
    assert len(expected) == len(photographs) and {row["unsure"] for row in expected} <= {True, False}
    for path, row in zip(photographs, expected, strict=True):
        del row["path"]
        assert server.ask(f"/row?ending={path.suffix}", path.read_bytes()) == close(row)


def facts(server: Server) -> str:
    page = server.request("GET", f"/?key={server.key}").content.decode()
    return re.search(r'<script type="application/json" id="facts">(.*?)</script>', page)[1]


def test_an_answer_has_all_that_the_page_shows(server, run_dir, photographs):
    path = photographs[0]
    row, answer = (server.ask(f"/{name}?ending={path.suffix}", path.read_bytes()) for name in ("row", "answer"))
    assert row.items() <= answer.items()
    assert answer["top"] == [list(pair) for pair in sorted(row["probabilities"].items(), key=lambda item: -item[1])]
    assert {answer["label"], answer["rival"]} == {"blobs", "stripes"}
    for name in ("picture", "heatmap"):
        picture = Image.open(io.BytesIO(b64decode(answer[name].removeprefix("data:image/jpeg;base64,"))))
        assert picture.size == (448, 448) and picture.format == "JPEG"
    assert answer["where"] and len(answer["neighbours"]) == 4
    similarities = [near["similarity"] for near in answer["neighbours"]]
    assert similarities == sorted(similarities, reverse=True)
    images = {row["image_id"]: row for row in csv.DictReader((run_dir / "data/raw/images.csv").open())}
    splits = {row["image_id"]: row["split"] for row in csv.DictReader((run_dir / "data/split.csv").open())}
    for near in answer["neighbours"]:
        assert near["label"] == images[near["image_id"]]["label"] and splits[near["image_id"]] == "train"


def test_a_photograph_of_the_run_is_recognised_and_is_no_neighbour_of_itself(server, run_dir, photographs):
    rows = {row["sha256"]: row for row in csv.DictReader((run_dir / "data/raw/images.csv").open())}
    splits = {row["image_id"]: row["split"] for row in csv.DictReader((run_dir / "data/split.csv").open())}
    for path in photographs[:10]:
        content = path.read_bytes()
        known = rows[hashlib.sha256(content).hexdigest()]
        answer = server.ask("/answer", content)
        expected = {"image_id": known["image_id"], "label": known["label"], "split": splits[known["image_id"]]}
        assert answer["twin"] == expected
        assert known["image_id"] not in {near["image_id"] for near in answer["neighbours"]}
    changed = io.BytesIO()
    Image.open(photographs[0]).rotate(20).save(changed, "PNG")
    assert server.ask("/answer", changed.getvalue())["twin"] is None


def test_what_is_nothing_like_the_training_photographs_is_marked(server):
    answer = server.ask("/answer", NOISE)
    assert answer["unsure"] is True and answer["distance"] > json.loads(facts(server))["limit"]


@pytest.mark.parametrize(
    ("content", "ending", "words"),
    [
        (png(20_000, 20_000), ".png", "over 200 megapixels"),
        (b"a text about a photograph\n" * 20, ".txt", "not an image that can be read"),
        (b"a text about a photograph\n" * 20, ".jpg", "not an image that can be read"),
        (b"", ".png", "an empty file"),
        (NOISE[:9000], ".png", "damaged"),
        (b"II*\0" + bytes(600), ".nef", "RAW"),
        (b"%PDF-1.7\n" + bytes(600), ".pdf", "a PDF"),
    ],
    ids=["20,000 pixels a side", "text", "text as JPEG", "empty", "cut off", "RAW", "PDF"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/answer", "/row"])
def test_what_is_no_photograph_is_one_line(server, path, content, ending, words):
    answer = server.ask(f"{path}?ending={ending}", content)
    assert list(answer) == ["error"] and words in answer["error"] and "\n" not in answer["error"]


def test_two_people_at_once_each_get_their_own_answers(server, photographs):
    def person(paths):
        return [server.ask("/row", path.read_bytes()) for path in paths]

    orders = [photographs, photographs[::-1]]
    with concurrent.futures.ThreadPoolExecutor(2) as people:
        first, second = people.map(person, orders)
    assert first == second[::-1] and len({row["distance"] for row in first}) > len(photographs) / 2


# --- Who is answered ---


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "photographs.example:80"},
        {"Host": "127.0.0.1.example:80"},
        {"Host": ""},
        {"Origin": "http://photographs.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"X_Thaw_Key": "another"},
        {"X_Thaw_Key": ""},
    ],
    ids=str,
)  # fmt: skip
def test_another_host_another_origin_and_no_key_are_refused(server, photographs, headers):
    key = {"X_Thaw_Key": server.key}
    response = server.request("POST", "/row", photographs[0].read_bytes(), **(key | headers))
    assert response.status == 403 and b"label" not in response.content
    if "Host" in headers:
        assert server.request("GET", f"/?key={server.key}", **headers).status == 403


def test_the_page_itself_needs_the_key(server):
    assert server.request("GET", f"/?key={server.key}").status == 200
    for path in ("/", "/?key=", f"/?key={server.key[:-1]}"):
        response = server.request("GET", path)
        assert response.status == 403 and server.key.encode() not in response.content
        assert b"make try" in response.content
    same = {"Host": f"localhost:{server.port}", "Origin": f"http://localhost:{server.port}"}
    assert server.request("GET", f"/?key={server.key}", Host="localhost:1234").status == 200  # behind a tunnel
    assert server.request("POST", "/row", b"", X_Thaw_Key=server.key, **same).status == 200


@pytest.mark.parametrize("path", ["/params.yaml", "/../../etc/passwd", "/data/raw/images.csv", "//etc/passwd"])
def test_nothing_else_is_served(server, path):
    for method in ("GET", "POST"):
        response = server.request(method, f"{path}?key={server.key}", b"", X_Thaw_Key=server.key)
        assert response.status == 404 and len(response.content) < 100


def test_an_upload_without_a_length_or_over_the_limit_is_refused_before_it_is_read(server):
    key = {"X_Thaw_Key": server.key}
    assert server.request("POST", "/row", iter([b"x"]), Transfer_Encoding="chunked", **key).status == 411
    for length, status in (("100000001", 413), ("-1", 411), ("many", 411)):
        assert server.request("POST", "/row", b"", Content_Length=length, **key).status == status


def test_an_upload_that_breaks_off_is_one_line_and_stops_nobody(server, photographs):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        host = f"Host: 127.0.0.1:{server.port}"
        head = f"POST /answer HTTP/1.1\r\n{host}\r\nX-Thaw-Key: {server.key}\r\nContent-Length: 3000\r\n\r\n"
        connection.sendall(head.encode() + bytes(1200))
    end = time.monotonic() + 20
    while "broke off" not in server.complaints.read_text() and time.monotonic() < end:
        time.sleep(0.02)
    assert (
        "try: an upload broke off after 1,200 of 3,000 bytes; nothing of it was kept" in server.complaints.read_text()
    )
    assert "label" in server.ask("/row", photographs[0].read_bytes())


def test_the_policy_allows_the_pages_own_script_and_style_alone(server):
    response = server.request("GET", f"/?key={server.key}")
    policy, page = response.headers["Content-Security-Policy"], response.content.decode()
    assert "unsafe" not in policy and policy.startswith("default-src 'none';") and "http" not in policy
    for name, element in (("script", "<script>"), ("style", "<style>")):
        inside = page.partition(element)[2].partition(f"</{name}>")[0]
        digest = b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff" and response.headers["Cache-Control"] == "no-store"
    assert not re.findall(r"https?://", page)


def test_it_listens_on_the_loopback_address_alone(server):
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        with contextlib.suppress(OSError):
            probe.connect(("10.255.255.255", 1))
        own = probe.getsockname()[0]
    if own.startswith("127.") or own == "0.0.0.0":
        pytest.skip("this machine has no other address")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((own, server.port), timeout=5)


def test_neither_keras_nor_tensorflow_is_loaded(server, photographs):
    at_start = closure(SRC / "try.py", lazy=False)
    heavy = re.compile(r"^(?:import|from) (tensorflow|keras)\b", re.MULTILINE)
    assert not [path for path in at_start if heavy.search(path.read_text())]
    server.ask("/answer", photographs[0].read_bytes())
    maps = Path(f"/proc/{server.process.pid}/maps")
    if not maps.exists():
        pytest.skip("this system does not list the libraries of a process")
    loaded = maps.read_text()
    assert "/openvino/" in loaded and "libtensorflow" not in loaded


# --- What is missing at the start ---


def run_script(folder: Path, *options: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "src/try.py", "--no-browser", *map(str, options)],
        cwd=folder, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_a_port_in_use_is_one_line(server, run_dir):
    result = run_script(run_dir, "--port", server.port)
    assert result.returncode == 1 and not result.stdout
    assert result.stderr == f"thaw: port {server.port} is in use: take another one, such as --port {server.port + 1}\n"


def test_no_model_is_one_line(source_dir):
    result = run_script(source_dir, "--port", 0)
    assert result.returncode == 1 and not result.stdout
    assert result.stderr.startswith("thaw: models/model.keras is missing: run `dvc repro`")
    assert result.stderr.count("\n") == 1


def test_a_port_that_is_none_is_refused(run_dir):
    assert run_script(run_dir, "--port", 65536).returncode == 2


def test_without_the_training_photographs_it_answers_and_says_what_is_missing(run_dir, tmp_path, photographs):
    folder = tmp_path / "alone"
    for name in ("src", "models"):
        shutil.copytree(run_dir / name, folder / name)
    server = Server(folder, tmp_path)
    try:
        answer = server.ask("/answer", photographs[0].read_bytes())
        assert "distance" not in answer and answer["neighbours"] == [] and answer["twin"] is None
        assert answer["label"] and answer["heatmap"]
        assert "dvc pull extract_features split backbone" in json.loads(facts(server))["without"]
        assert server.complaints.read_text().splitlines()[0].startswith("try: without the training photographs: ")
    finally:
        server.stop()


# --- Several labels for each photograph ---


@pytest.fixture(scope="module")
def several(run_dir, tmp_path_factory):
    """A server of a model that names what is dark, bright and red in a photograph."""
    from thaw.core import hashes
    from thaw.engines import model_files
    from thaw.engines.keras_setup import keras

    scratch = tmp_path_factory.mktemp("several")
    image = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    dense = keras.layers.Dense(3, activation="sigmoid")
    network = keras.Model(image, dense(pooled))
    dense.set_weights([np.float32([[-3, 3, 5], [-3, 3, -4], [-3, 3, -4]]), np.float32([2, -4, 0])])
    classes, model = ["dark", "bright", "red"], scratch / "model.keras"
    image = {"size": 16, "resize": "crop", "engine": "openvino"}
    model_files.save(network, model, {"class_names": classes, "image": image, "task": "multi"})
    decision = {
        "task": "multi", "classes": classes, "model_md5": hashes.md5(model), "test_time_flips": "horizontal",
        "temperatures": dict.fromkeys(classes, 1.5), "thresholds": dict(zip(classes, (0.5, 0.45, 0.6), strict=True)),
    }  # fmt: skip
    (scratch / "decision.json").write_text(json.dumps(decision))
    for name, colour in (("dark", (20, 10, 10)), ("red", (250, 20, 10)), ("none", (120, 140, 30))):
        Image.new("RGB", (40, 30), colour).save(scratch / f"{name}.png")
    server = Server(run_dir, scratch, "--model", str(model))
    server.files = [scratch / f"{name}.png" for name in ("dark", "red", "none")]
    yield server
    server.stop()


def predicted_as(style: str, server: Server, folder: Path) -> str:
    command = [sys.executable, "src/predict.py", style, "--cache", server.temporary.parent / "cache", "--model",
               server.temporary.parent / "model.keras"]  # fmt: skip
    options = {"cwd": folder, "capture_output": True, "text": True, "check": True}
    return subprocess.run([*command, *server.files], **options).stdout


def test_several_labels_are_answered_as_predict_does(several, run_dir):
    expected = [json.loads(line) for line in predicted_as("--json", several, run_dir).splitlines()]
    assert [row["labels"] for row in expected] == [["dark"], ["red"], []]
    for path, row in zip(several.files, expected, strict=True):
        del row["path"]
        answer = several.ask("/answer?ending=.png", path.read_bytes())
        assert several.ask("/row?ending=.png", path.read_bytes()) == row and row.items() <= answer.items()
        assert answer["subject"] == answer["top"][0][0] and answer["rival"] is None and answer["heatmap"]


@needs_chromium
def test_several_labels_are_shown_and_downloaded_as_predict_writes_them(several, browser, run_dir, tmp_path):
    browser.complaints.clear()
    browser.emulate(1280, 900)
    browser.open(several.address)
    browser.give("#files", several.files[1])
    browser.wait(ANSWERED)
    assert browser.evaluate("document.querySelector('.verdict h2').textContent") == "red"
    assert browser.evaluate("document.querySelectorAll('.bars i').length") == 3
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.give("#files", *several.files)
    browser.wait(TABLE)
    browser.evaluate(f"{TABLE}.click()", gesture=True)
    target, end = tmp_path / "predictions.csv", time.monotonic() + 20
    while not target.exists() and time.monotonic() < end:
        time.sleep(0.02)
    ours, theirs = (
        [numbers(row) for row in csv.DictReader(io.StringIO(text))]
        for text in (target.read_text(), predicted_as("--csv", several, run_dir))
    )
    assert ours == [row | {"path": Path(row["path"]).name} for row in theirs]
    assert browser.complaints == []


# --- Where it looked ---


def test_the_map_is_the_one_of_class_activation(run_dir, tmp_path, photographs):
    from thaw.engines import model_files, openvino_setup
    from thaw.evaluation import class_activation
    from thaw.images.views import network_input
    from thaw.prediction import deployed_model
    from thaw.serving import activation_graph
    from thaw.serving.shared_network import SharedNetwork

    model = run_dir / "models/model.keras"
    description = deployed_model.read_description(model)
    network = openvino_setup.read(deployed_model.converted_network(model, tmp_path))
    probabilities = network.output(deployed_model.OUTPUT).get_node().input_value(0)
    weighing = activation_graph.find_weighing(probabilities)
    shared = SharedNetwork([probabilities, weighing.map], network.get_parameters(), description.size)
    views = [network_input(path, description.size, description.resize) for path in photographs[:6]]
    maps = [activation_graph.activation_map(shared(view)[1], weighing.kernel, 1, 0) for view in views]
    keras_model, _ = model_files.load(model)
    ones = np.ones(len(views), int)
    expected = class_activation.activation_maps(keras_model, None, np.stack(views), ones, 0 * ones)
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["hidden layer", "maximum", "sigmoid", "class token", "patches"])
def test_a_map_is_found_where_there_is_one_and_nowhere_else(kind):
    from thaw.engines.keras_setup import keras
    from thaw.engines.keras_to_openvino import convert
    from thaw.engines.transformer_layers import TokenPooling
    from thaw.serving import activation_graph

    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(image)
    if kind in ("class token", "patches"):
        tokens = keras.layers.Reshape((16, 4))(x)
        pooled = TokenPooling("cls" if kind == "class token" else "avg", 0)(tokens)
    else:
        pooled = (keras.layers.GlobalMaxPooling2D if kind == "maximum" else keras.layers.GlobalAveragePooling2D)()(x)
    if kind == "hidden layer":
        pooled = keras.layers.Dense(5, activation="relu")(pooled)
    dense = keras.layers.Dense(3, activation="sigmoid" if kind == "sigmoid" else "softmax")
    network = convert(keras.Model(image, dense(pooled)))
    weighing = activation_graph.find_weighing(network.output(0))
    assert (weighing is not None) == (kind in ("patches", "sigmoid"))
    if kind == "patches":
        np.testing.assert_array_equal(weighing.kernel, np.asarray(dense.get_weights()[0]))
        tokens = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
        map_ = activation_graph.activation_map(tokens, weighing.kernel, 2, 0)
        expected = (tokens @ (weighing.kernel[:, 2] - weighing.kernel[:, 0])).reshape(4, 4)
        np.testing.assert_allclose(map_, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("place", "words"), [((0, 0), "upper left"), ((3, 3), "middle"), ((6, 6), "lower right"), ((0, 3), "top")]
)
def test_the_strongest_place_is_named(place, words):
    from thaw.serving.answers import strongest_place

    places = np.full((7, 7), -1.0)
    assert strongest_place(places) is None
    places[place] = 2
    assert strongest_place(places) == words


def test_what_fails_in_the_server_is_not_called_a_damaged_photograph(capfd):
    def fails(photograph):
        raise RuntimeError("no memory on the device")

    with page_server.Server(0) as listening:
        listening.show(b"page", "", "key", {"/answer": fails})
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        connection = http.client.HTTPConnection("127.0.0.1", listening.server_address[1])
        connection.request("POST", "/answer", b"x", {page_server.KEY: "key"})
        answer = json.loads(connection.getresponse().read())
        listening.shutdown()
    assert answer == {"error": "the server failed (RuntimeError: no memory on the device)"}
    assert "try: the server failed (RuntimeError" in capfd.readouterr().err


# --- In a browser ---


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def page(browser, server):
    """The page, just opened; in the end nothing but its own server was asked, and nothing was complained of."""
    browser.requested.clear()
    browser.complaints.clear()
    browser.emulate(1280, 900)
    browser.open(server.address)
    yield browser
    fetched = [address for address in browser.requested if not address.startswith(("data:", "blob:"))]
    assert fetched and all(address.startswith(f"http://127.0.0.1:{server.port}/") for address in fetched)
    assert browser.complaints == []


ANSWERED = "!document.getElementById('answer').hidden"
TABLE = "document.querySelector('#batch button.first')"


@needs_chromium
def test_a_photograph_is_answered_on_every_screen_without_overflow(page, photographs):
    page.give("#files", photographs[0])
    page.wait(ANSWERED)
    for width, media in ((1280, {}), (390, {}), (390, {"prefers_color_scheme": "dark"})):
        page.emulate(width, 844, phone=width < 600, **media)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth)")
    alternatives = page.evaluate("[...document.images].map(image => image.alt)")
    assert len(alternatives) == 6 and all(alternatives)
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(20, 22, 24)"
    assert page.evaluate("document.getElementById('status').textContent").split(",")[0] in ("blobs", "stripes")


@needs_chromium
def test_a_folder_of_a_hundred_gives_the_table_of_predict(page, server, run_dir, photographs, tmp_path):
    files = []
    for number in range(100):
        source = photographs[number % len(photographs)]
        files.append(tmp_path / f'{number:03} "quoted", and more{source.suffix}')
        shutil.copyfile(source, files[-1])
    (tmp_path / "downloads").mkdir()
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "downloads"))
    page.give("#files", *files)
    page.wait(TABLE)
    assert page.evaluate("document.querySelectorAll('#batch tbody tr').length") == 100
    page.evaluate(f"{TABLE}.click()", gesture=True)
    target, end = tmp_path / "downloads/predictions.csv", time.monotonic() + 20
    while not target.exists() and time.monotonic() < end:
        time.sleep(0.02)
    share = json.loads(facts(server))["far"]
    expected = subprocess.run(
        [sys.executable, "src/predict.py", "--csv", "--far", str(share), "--cache", server.temporary.parent / "cache",
         *files],
        cwd=run_dir, capture_output=True, text=True, check=True,
    )  # fmt: skip
    downloaded, predicted = (list(csv.DictReader(io.StringIO(text))) for text in (target.read_text(), expected.stdout))
    for row in predicted:
        row["path"] = Path(row["path"]).name
    assert list(downloaded[0]) == list(predicted[0]) and len(downloaded) == len(predicted)
    for ours, theirs in zip(map(numbers, downloaded), map(numbers, predicted), strict=True):
        assert ours == close(theirs)


def numbers(row: dict[str, str]) -> dict[str, object]:
    return {
        name: float(text) if re.match("probability|distance", name) and text else text for name, text in row.items()
    }


@needs_chromium
def test_a_look_at_one_photograph_does_not_end_the_table(page, photographs, tmp_path):
    files = []
    for number in range(200):
        source = photographs[number % len(photographs)]
        files.append(tmp_path / f"{number:03}{source.suffix}")
        shutil.copyfile(source, files[-1])
    page.give("#files", *files)
    page.wait("document.querySelector('#batch button.name')")
    assert not page.evaluate(f"Boolean({TABLE})")  # it has not ended yet
    page.evaluate("document.querySelector('#batch button.name').click()", gesture=True)
    page.wait(ANSWERED)
    page.wait(TABLE)
    assert page.evaluate("document.querySelector('#batch h2').textContent") == "200 photographs"
    assert page.evaluate("document.querySelectorAll('#batch tbody tr').length") == 200


@needs_chromium
def test_what_cannot_be_read_is_said_and_stops_no_other(page, photographs, tmp_path):
    (tmp_path / "huge.png").write_bytes(png(20_000, 20_000))
    (tmp_path / "notes.txt").write_text("no photograph")
    page.give("#files", tmp_path / "huge.png")
    status = "document.getElementById('status').textContent"
    page.wait(f"{status}.includes('over 200 megapixels')")
    assert page.evaluate(status) == "huge.png: over 200 megapixels."
    page.give("#files", tmp_path / "notes.txt", photographs[0], tmp_path / "huge.png")
    page.wait(TABLE)
    rows = page.evaluate("[...document.querySelectorAll('#batch tbody tr')].map(row => row.className + row.innerText)")
    assert len(rows) == 3 and "not an image" in rows[0] and "%" in rows[1] and "over 200 megapixels" in rows[2]
    assert "2 files could not be read" in page.evaluate("document.getElementById('batch').innerText")


@needs_chromium
@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_photograph_is_dropped_or_pasted(page, photographs, way):
    content = b64encode(photographs[0].read_bytes()).decode()
    make = f"""
        const bytes = Uint8Array.from(atob("{content}"), c => c.charCodeAt());
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], "given{photographs[0].suffix}"));
    """
    events = {
        "drop": 'dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, cancelable: true}))',
        "paste": 'dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer}))',
    }
    page.evaluate(f"(() => {{ {make} {events[way]}; }})()")
    page.wait(ANSWERED)
    assert f"given{photographs[0].suffix}" in page.evaluate("document.getElementById('answer').innerText")


@needs_chromium
def test_a_picture_is_taken_with_the_camera_which_is_then_off(page):
    page.evaluate("document.getElementById('photograph').click()", gesture=True)
    page.wait("document.getElementById('viewfinder').open && document.getElementById('video').videoWidth")
    page.evaluate("window.camera = document.getElementById('video').srcObject")
    page.evaluate("document.getElementById('shoot').click()")
    page.wait(ANSWERED)
    assert page.evaluate("camera.getTracks().every(track => track.readyState === 'ended')")
    assert "picture.jpg" in page.evaluate("document.getElementById('answer').innerText")


@needs_chromium
def test_the_keyboard_is_enough(page, photographs):
    page.call("Page.setInterceptFileChooserDialog", enabled=True)
    page.press("Tab", 9)
    assert page.evaluate("document.activeElement.id") == "choose"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.evaluate("document.getElementById('files').addEventListener('click', () => { window.opened = true; })")
    page.press("Enter", 13)
    page.wait("window.opened")
    page.call("Page.setInterceptFileChooserDialog", enabled=False)
    page.give("#files", *photographs[:3])
    page.wait(TABLE)
    page.evaluate("document.querySelector('#batch button.name').focus()")
    page.press("Enter", 13)
    page.wait(ANSWERED)


@needs_chromium
def test_who_wants_less_motion_gets_none(page, photographs):
    page.emulate(1280, 900, prefers_reduced_motion="reduce")
    page.give("#files", photographs[0])
    page.wait(ANSWERED)
    assert page.evaluate("document.getAnimations().length") == 0
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.bars .bar'), '::before').transitionDuration") == "0s"
    )


@needs_chromium
def test_when_the_server_has_ended_the_page_says_so(run_dir, tmp_path, browser, photographs):
    server = Server(run_dir, tmp_path)
    browser.open(server.address)
    server.stop()
    browser.give("#files", photographs[0])
    browser.wait("document.getElementById('status').textContent.includes('Start it again with make try')")
    assert browser.evaluate("document.getElementById('answer').hidden")
