"""What Thaw uses of Keras' private interfaces still works; no module outside `engines` uses a private interface of
Keras, TensorFlow or OpenVINO."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from dependencies import ROOT, SRC, parse

ENGINES = SRC / "thaw" / "engines"
OUTSIDE = sorted(path for path in SRC.rglob("*.py") if ENGINES not in path.parents)
ALLOWED = {"_exit", "_replace", "_asdict", "_fields"}  # documented, of Python
ALLOWED |= {"_mmap", "_convert_value", "_MAX_PRECOMPUTE_DISTS"}  # private, of NumPy, Hydra and FiftyOne
ALLOWED |= {"_actions", "_choices_actions", "_expand_help", "_get_formatter"}  # private, of argparse
ALLOWED |= {"_HelpAction", "_SubParsersAction"}
INSIDES = ("keras.src", "tensorflow.", "openvino.")  # modules below these packages are not documented


@pytest.fixture(scope="module")
def keras():
    from thaw.engines.keras_setup import keras

    return keras


def test_the_producer_of_a_tensor_is_its_layer(keras):
    from thaw.engines.keras_internals import producer

    layer = keras.layers.Dense(2)
    assert producer(layer(keras.Input((3,)))) is layer


def test_the_inputs_of_a_call_are_those_of_that_call_alone(keras):
    from thaw.engines.keras_internals import call_inputs

    layer, first, second = keras.layers.Dense(3), keras.Input((3,)), keras.Input((3,))
    outputs = [layer(first), layer(second)]
    assert [call_inputs(tensor) for tensor in outputs] == [[first], [second]]


def test_a_graph_runs_with_other_operations(keras):
    from thaw.engines.keras_internals import as_functional, run_graph

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(3, name="b")])
    assert run_graph(as_functional(model), "x", lambda step, text: f"{step.name}({text})") == "b(a(x))"


def private_names(tree: ast.Module, own: set[str]) -> Iterator[str]:
    """Yield what a module uses that begins with an underscore and is not `own`, and what it imports from inside a
    library, or puts in the place of one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(INSIDES))
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            if node.module.startswith("thaw"):
                names = [name for name in names if name.rpartition(".")[2].startswith("_")]
                yield from (name for name in names if name.rpartition(".")[2] not in own)
            else:
                yield from (name for name in names if name.startswith(INSIDES) or "._" in name)
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            private = node.attr.startswith("_") and not node.attr.endswith("__")
            if (private and node.attr not in own | ALLOWED) or name in ("keras.src", "tf.python"):
                yield name
        elif isinstance(node, ast.Assign):
            yield from (text for target in node.targets if (text := ast.unparse(target)).startswith("sys.modules["))


def defined_names(tree: ast.Module) -> set[str]:
    """The functions, classes and variables that a module defines, and the attributes of its classes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
            if isinstance(node, ast.ClassDef):
                body = [child for child in node.body if isinstance(child, ast.AnnAssign)]
                names |= {child.target.id for child in body if isinstance(child.target, ast.Name)}
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


@cache
def own_names() -> set[str]:
    return set().union(*(defined_names(parse(path)) for path in OUTSIDE))


@pytest.mark.parametrize("module", OUTSIDE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_outside_engines_uses_a_private_interface(module):
    assert not list(private_names(parse(module), own_names())), "a function of thaw.engines should do this"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("layer = tensor._keras_history.operation", "tensor._keras_history"),
        ("model._run_through_graph(x)", "model._run_through_graph"),
        ("keras.src.saving.saving_lib.is_memory_sufficient = 1", "keras.src"),
        ("from keras.src import tree", "keras.src.tree"),
        ("import keras.src.tree", "keras.src.tree"),
        ("from tensorflow.python.eager import backprop", "tensorflow.python.eager.backprop"),
        ("def f():\n    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel",
         "tensorflow.core.protobuf.saved_model_pb2.SavedModel"),
        ("from openvino._pyopenvino import Model", "openvino._pyopenvino.Model"),
        ("import sys\nsys.modules['tensorflow'] = None", "sys.modules['tensorflow']"),
    ],
)  # fmt: skip
def test_a_private_interface_would_be_noticed(source, name):
    assert list(private_names(ast.parse(source), set())) == [name]


def test_own_private_names_are_allowed():
    source = (
        "from pathlib import Path\nclass A:\n    def _f(self):\n        self._x = 1\n        return self._f, self._x"
    )
    assert not list(private_names(ast.parse(source), defined_names(ast.parse(source))))
    assert not list(private_names(ast.parse("import os\nos._exit(1)\nkeras.backend.clear_session()"), set()))


def test_each_function_of_the_internals_names_the_test_that_would_notice():
    functions = [node for node in parse(ENGINES / "keras_internals.py").body if isinstance(node, ast.FunctionDef)]
    assert functions
    for function in functions:
        why, _, tests = ast.get_docstring(function).partition(" Test: ")
        assert "Why: " in why
        assert tests and all((Path(__file__).parent / name).exists() for name in tests.rstrip(".").split(", "))
