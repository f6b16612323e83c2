"""A Keras model as one TensorFlow graph, from which every format but OpenVINO's is made.

Weights are constants, and names are its own. Such a graph holds nothing of the process that made it (no counter, no
path, no date): equal models are equal bytes.
"""

import contextlib
import os
import sys
from collections.abc import Iterator

from thaw.keras import keras
from thaw.tensorflow import tf

IMAGE, PROBABILITIES = "image", "probabilities"  # input and output in every format


def freeze(model: keras.Model, size: int, batch: int | None = None) -> tf.compat.v1.GraphDef:
    """Return `model` as a graph from IMAGE, (batch, size, size, 3) float32, to PROBABILITIES, (batch, classes) float32.

    A batch of None may be of any length.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def answer(image: tf.Tensor) -> tf.Tensor:
        return tf.identity(model(image, training=False), name=PROBABILITIES)

    signature = [tf.TensorSpec((batch, size, size, 3), tf.float32, name=IMAGE)]
    # Traced through Keras' own functions: it compiles convolutions in groups (ConvNeXt's), and what is compiled stays
    # a call that other engines do not know.
    tf.config.run_functions_eagerly(True)
    try:
        function = tf.function(answer, input_signature=signature).get_concrete_function()
    finally:
        tf.config.run_functions_eagerly(False)
    graph = convert_variables_to_constants_v2(function).graph.as_graph_def()
    for node in graph.node:
        node.attr.pop("_gradient_op_type", None)  # swish registers its gradient under a number of the process
    return graph


def saved_model(graph: tf.compat.v1.GraphDef) -> bytes:
    """Return the `saved_model.pb` that a SavedModel of such a graph consists of.

    TensorFlow's own writer adds a random fingerprint and numbers the functions of the whole process.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    whole = SavedModel(saved_model_schema_version=1)
    meta = whole.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    meta.meta_info_def.tensorflow_version = tf.__version__
    meta.graph_def.CopyFrom(graph)
    signature = meta.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    with tf.Graph().as_default() as known:
        tf.import_graph_def(graph, name="")
    for slots, name in ((signature.inputs, IMAGE), (signature.outputs, PROBABILITIES)):
        tensor = known.get_tensor_by_name(f"{name}:0")
        slots[name].name = tensor.name
        slots[name].dtype = tensor.dtype.as_datatype_enum
        slots[name].tensor_shape.CopyFrom(tensor.shape.as_proto())
    return whole.SerializeToString(deterministic=True)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep what converters and runtimes say, from Python and from C++, off the terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in enumerate(kept, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(null)
