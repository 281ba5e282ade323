"""What docs/design.md says about a row and its company, as an assertion."""

import numpy as np

# Kernels may sum in another order for another batch size or at another place in a batch. Then
# results agree to this share of the largest value.
ROUNDING = 1e-5


def assert_rows_agree(found, expected, err_msg=""):
    """The same rows to the rounding of float32, computed in other company or at another place."""
    found, expected = np.asarray(found), np.asarray(expected)
    atol = ROUNDING * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=err_msg)
