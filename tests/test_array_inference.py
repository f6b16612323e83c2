"""What a part of a model answers on OpenVINO is what it answers in Keras."""

import numpy as np
import pytest

from thaw import arrays


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8])
@pytest.mark.parametrize("shape", [(5, 6, 3), (7,)])
def test_rows_in_any_number_and_order(tmp_path, dtype, shape):
    from thaw.array_inference import predictor
    from thaw.keras import keras

    keras.utils.set_random_seed(1)
    rows = keras.Input(shape)
    x = keras.layers.Conv2D(4, 3)(rows) if len(shape) == 3 else keras.layers.Dense(4)(rows)
    part = keras.Model(rows, keras.layers.Flatten()(x))
    values = np.random.default_rng(1).uniform(0, 9, (150, *shape)).astype(dtype)
    arrays.write_rows(tmp_path / "rows.npy", [values], len(values))
    predict = predictor(part, arrays.open_rows(tmp_path / "rows.npy"))
    for numbers in (np.arange(150), np.array([149, 3, 3]), np.array([7])):
        found = predict(numbers)
        assert found.dtype == np.float32
        expected = np.asarray(part(values[numbers].astype(np.float32)))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
