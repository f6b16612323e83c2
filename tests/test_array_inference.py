"""A part of a model returns on OpenVINO what it returns in Keras."""

import numpy as np
import pytest

from thaw.core import arrays


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8])
@pytest.mark.parametrize("shape", [(5, 6, 3), (7,)])
def test_rows_in_any_number_and_order(tmp_path, dtype, shape):
    from thaw.engines.array_inference import predictor
    from thaw.engines.keras_setup import keras

    keras.utils.set_random_seed(1)
    rows = keras.Input(shape)
    x = keras.layers.Conv2D(4, 3)(rows) if len(shape) == 3 else keras.layers.Dense(4)(rows)
    part = keras.Model(rows, keras.layers.Flatten()(x))
    values = np.random.default_rng(1).uniform(0, 9, (150, *shape)).astype(dtype)
    arrays.write_rows(tmp_path / "rows.npy", [values], len(values))
    predict = predictor(part, arrays.open_rows(tmp_path / "rows.npy"))
    for numbers in (np.arange(150), np.array([149, 3, 3]), np.array([7])):
        outputs = predict(numbers)
        assert outputs.dtype == np.float32
        expected = np.asarray(part(values[numbers].astype(np.float32)))
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


def test_other_inputs_of_the_same_kind_need_no_new_predictor():
    from thaw.engines.array_inference import predictor
    from thaw.engines.keras_setup import keras

    rows = keras.Input((7,))
    part = keras.Model(rows, keras.layers.Dense(4)(rows))
    first, other = np.random.default_rng(1).normal(size=(2, 5, 7)).astype(np.float32)
    predict = predictor(part, first)
    np.testing.assert_allclose(predict(np.arange(5), other), np.asarray(part(other)), rtol=1e-4, atol=1e-4)
