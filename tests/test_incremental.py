"""dask_ml.wrappers.Incremental: partial_fit over the blocks of a Dask array."""

import numpy as np
import pytest
from image_helpers import striped_images

from transferclf import TransferClassifier

pytest.importorskip("dask_ml", reason="dask-ml is not installed")
SHAPE = (32, 32, 3)


def test_blocks_are_learned_one_after_another():
    import dask.array as da
    from dask_ml.wrappers import Incremental

    images, labels = striped_images(96, np.random.default_rng(0)), np.arange(96) % 3
    rows = images.reshape(96, -1)
    expected = TransferClassifier(image_shape=SHAPE, random_state=0)
    for part in np.split(np.arange(96), 3):
        expected.partial_fit(rows[part], labels[part], classes=[0, 1, 2])
    blocks = da.from_array(rows, chunks=(32, -1)), da.from_array(labels, chunks=32)
    model = Incremental(TransferClassifier(image_shape=SHAPE, random_state=0), shuffle_blocks=False)
    model.fit(*blocks, classes=[0, 1, 2])
    np.testing.assert_array_equal(
        model.estimator_.predict_proba(rows), expected.predict_proba(rows)
    )
    np.testing.assert_array_equal(model.predict(blocks[0]).compute(), expected.predict(rows))
