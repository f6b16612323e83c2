"""The private interfaces of Keras that Thaw needs. No module outside `engines` uses one.

TensorFlow's are in `tensorflow_setup`, OpenVINO's in `openvino_setup`. A function says why it is needed, and which test
fails if a new version of Keras changes or removes what it uses.
"""

from collections.abc import Callable
from functools import partial

from thaw.engines.keras_setup import keras


def producer(tensor: keras.KerasTensor) -> keras.Operation:
    """Return the layer or operation that a symbolic tensor is the output of.

    Why: Keras has no public way from a tensor back to its layer. Test: test_keras_internals.py, test_folding.py.
    """
    return tensor._keras_history.operation


def call_inputs(tensor: keras.KerasTensor) -> list[keras.KerasTensor]:
    """Return the inputs of the call that gave a symbolic tensor.

    Why: a layer that is called twice has no public `input`. Test: test_keras_internals.py, test_class_activation.py.
    """
    operation, node, _ = tensor._keras_history
    return operation._inbound_nodes[node].input_tensors


def run_graph(model: keras.Model, inputs, call: Callable):
    """Return the outputs of a functional model if `call(operation, *tensors, **options)` computes each of its steps.

    Why: the public `clone_model` accepts only Keras' own tensors. Test: test_keras_to_openvino.py.
    """
    return model._run_through_graph(inputs, operation_fn=lambda operation: partial(call, operation))


def as_functional(model: keras.Sequential) -> keras.Model:
    """Return the functional model inside a sequential one.

    Why: only a functional model has the graph that `run_graph` follows. Test: test_keras_to_openvino.py.
    """
    return model._functional


def save_weights_at_once() -> None:
    """Make Keras save the weights of every model in one pass.

    Why: if little memory is free, it writes them in another layout, so other bytes. Test: test_model_files.py.
    """
    keras.src.saving.saving_lib.is_memory_sufficient = lambda model: True
