"""The top of a network: the layers that make its classes, in the form that `head.extend` reads."""

from thaw.backbones.cut_points import FEATURES
from thaw.engines.keras_internals import producer
from thaw.engines.keras_setup import keras


def with_features(network: keras.Model) -> keras.Model:
    """Return a network with the same outputs whose last layers are `features` and, dense, `predictions`.

    Args:
        network: ends in (n, classes) probabilities. Its last layer with weights makes their logits: it is dense, or a
            convolution of a map of one position, as MobileNet has it. A network that has a layer `features` stays as
            it is.

    Returns:
        The network. `features` has the (n, channels) that the layer of the logits reads, without dropout: the mean of
        the last map where this is all that lies before it, else a `Flatten` layer.
    """
    if FEATURES in [layer.name for layer in network.layers]:
        return network
    logits = [layer for layer in network.layers if layer.weights][-1]
    tensor = logits.input
    while isinstance(layer := producer(tensor), keras.layers.Dropout):
        tensor = layer.input
    if isinstance(layer, keras.layers.GlobalAveragePooling2D):
        features = keras.layers.GlobalAveragePooling2D(name=FEATURES)(layer.input)
    else:
        features = keras.layers.Flatten(name=FEATURES)(tensor)
    kernel, bias = logits.get_weights()
    dense = keras.layers.Dense(len(bias), activation="softmax", name="predictions")
    full_network = keras.Model(network.input, dense(features), name=network.name)
    dense.set_weights([kernel.reshape(-1, len(bias)), bias])
    return full_network
