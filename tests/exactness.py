"""Assert that a row does not depend on its batch, as docs/explanation/design.md states it."""

import numpy as np

# Kernels may sum in another order for another batch size or another place in a batch. Results then
# agree to this share of the largest value.
ROUNDING = 1e-5


def assert_rows_agree(found, expected, err_msg=""):
    """Check that rows of different batches agree to the rounding of float32."""
    found, expected = np.asarray(found), np.asarray(expected)
    atol = ROUNDING * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=err_msg)


def outputs_of(model, pixels):
    """Return the outputs of a Keras model; `predict` would compile it for this one batch."""
    import keras

    return keras.ops.convert_to_numpy(model(np.asarray(pixels, np.float32), training=False))
