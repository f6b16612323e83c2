"""A Keras model as one TensorFlow graph. Every format but OpenVINO's is made from it.

Its weights are constants. The graph contains nothing of the process that made it (no counter, no path, no date): equal
models give equal bytes.
"""

from thaw.core.errors import ThawError
from thaw.engines.keras_setup import keras
from thaw.engines.openvino_layer import OpenVINONetwork
from thaw.engines.tensorflow_setup import SavedModel, constant_graph, tf
from thaw.exports.base import IMAGE, PROBABILITIES


def freeze(model: keras.Model, size: int, batch: int | None = None) -> tf.compat.v1.GraphDef:
    """Return `model` as a graph from IMAGE, (batch, size, size, 3) float32, to PROBABILITIES, (batch, classes) float32.

    With a batch of None, the graph takes batches of any length. Raises ThawError if TensorFlow cannot compute a layer.
    """
    if any(isinstance(layer, OpenVINONetwork) for layer in model.layers):
        raise ThawError("the backbone is a network from a file, which is exported to the format openvino alone")

    def classify(image: tf.Tensor) -> tf.Tensor:
        return tf.identity(model(image, training=False), name=PROBABILITIES)

    signature = [tf.TensorSpec((batch, size, size, 3), tf.float32, name=IMAGE)]
    # Keras' own functions are traced too. Keras compiles grouped convolutions (ConvNeXt's), and a compiled function
    # stays a call in the graph, which other engines cannot run.
    tf.config.run_functions_eagerly(True)
    try:
        function = tf.function(classify, input_signature=signature).get_concrete_function()
    finally:
        tf.config.run_functions_eagerly(False)
    return constant_graph(function)


def saved_model(graph: tf.compat.v1.GraphDef) -> bytes:
    """Return the bytes of `saved_model.pb` for a graph of `freeze`.

    TensorFlow's own writer adds a random fingerprint and numbers the functions of the whole process.
    """
    content = SavedModel(saved_model_schema_version=1)
    meta = content.meta_graphs.add()
    meta.meta_info_def.tags.append("serve")
    meta.meta_info_def.tensorflow_version = tf.__version__
    meta.graph_def.CopyFrom(graph)
    signature = meta.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(graph, name="")
    for slots, name in ((signature.inputs, IMAGE), (signature.outputs, PROBABILITIES)):
        tensor = imported.get_tensor_by_name(f"{name}:0")
        slots[name].name = tensor.name
        slots[name].dtype = tensor.dtype.as_datatype_enum
        slots[name].tensor_shape.CopyFrom(tensor.shape.as_proto())
    return content.SerializeToString(deterministic=True)
