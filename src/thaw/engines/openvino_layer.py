"""A network of OpenVINO's as a layer of Keras: `OpenVINONetwork`. It has no weights that Keras could train."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thaw.engines.keras_setup import keras

if TYPE_CHECKING:
    from thaw.engines.openvino_setup import ov

XML, BIN = "network.xml", "network.bin"  # in the assets of a `.keras` file
TO_OPENVINO, TO_KERAS = (0, 3, 1, 2), (0, 2, 3, 1)  # the axes of a map, transposed


@keras.saving.register_keras_serializable("thaw")
class OpenVINONetwork(keras.layers.Layer):
    """A network from (n, h, w, 3) to features (n, channels) or maps (n, h, w, channels), float32.

    A `.keras` file has the network in its assets, so that the file is complete. `keras_to_openvino.convert` puts the
    steps of the network among those of the other layers. In Keras, the layer is computed by OpenVINO too; only with
    the backend TensorFlow.

    Args:
        output: the shape of the output for one image; None for a side that depends on the image.
        parameters: how many numbers the network has learned.
        about: what the network takes and returns, as text.
        files: the network as OpenVINO's `.xml` and `.bin`. It has one input and one output; maps have their channels
            before height and width. None until `load_assets` reads them.
    """

    def __init__(
        self, output: list[int | None], parameters: int, about: str, files: tuple[bytes, bytes] | None = None, **options
    ):
        super().__init__(trainable=False, **options)
        self.output_sides, self.parameters, self.about = list(output), parameters, about
        self.files = files

    def get_config(self) -> dict[str, object]:
        own = {"output": self.output_sides, "parameters": self.parameters, "about": self.about}
        return {key: value for key, value in super().get_config().items() if key != "trainable"} | own

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], *self.output_sides)

    def count_params(self) -> int:
        return self.parameters

    def save_assets(self, folder: str) -> None:
        for name, content in zip((XML, BIN), self.files, strict=True):
            Path(folder, name).write_bytes(content)

    def load_assets(self, folder: str) -> None:
        self.files = tuple(Path(folder, name).read_bytes() for name in (XML, BIN))

    def read(self) -> "ov.Model":
        """Return the network."""
        from thaw.engines.openvino_setup import ov

        return ov.Core().read_model(*self.files)

    def splice(self, image: "ov.Node") -> "ov.Node":
        """Return the last step of the network, applied to a step (n, 3, h, w) float32 of another network."""
        network = self.read()
        for reader in network.input().get_node().output(0).get_target_inputs():
            reader.replace_source_output(image.output(0))
        return network.output().get_node().input_value(0).get_node()

    def call(self, image):
        from thaw.engines.openvino_setup import compile_for_cpu
        from thaw.engines.tensorflow_setup import tf

        # Compiled here, and run in a thread of OpenVINO's: TensorFlow's threads take tiny numbers as 0, and in them
        # OpenVINO computes some shapes wrongly.
        compiled = compile_for_cpu(self.read(), {"INFERENCE_PRECISION_HINT": "f32"})

        def compute(image: np.ndarray) -> np.ndarray:
            request = compiled.create_infer_request()
            request.start_async({0: np.ascontiguousarray(image.transpose(TO_OPENVINO))})
            request.wait()
            output = request.get_output_tensor(0).data.copy()
            return output.transpose(TO_KERAS) if output.ndim == 4 else output

        output = tf.numpy_function(compute, [image], tf.float32)
        output.set_shape(self.compute_output_shape(image.shape))
        return output
