"""Fine-tuning as others do it, from the same weights and pixels, for `fine_tuning_quality.py`.

Each method takes images and labels and returns a function that predicts labels. Images are paths,
or an array (n, h, w, 3), uint8.

fastai: https://docs.fast.ai/callback.schedule.html#learner.fine_tune. The network is timm's, and
everything that `vision_learner` and `fine_tune` do not ask for is their default. No validation
images are given, because measuring them after each epoch is no part of training.

The guide of Keras: https://keras.io/guides/transfer_learning, with the epochs of its workflow and
the augmentation and dropout of its example.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import keras

Predict = Callable[[np.ndarray], np.ndarray]


class Setting(NamedTuple):
    """What all methods of one measurement have in common."""

    backbone: str
    size: int
    seed: int


def pixels_of(X: np.ndarray, size: int) -> np.ndarray:
    """Return images as our backbones see them, resized and cropped; uint8 (n, size, size, 3)."""
    from transferclf.images import ImageSource
    from transferclf.images.loading import load_all

    return load_all(ImageSource(X), (size, size), "crop")


# --- fastai


def has_timm_network(backbone: str) -> bool:
    """Whether timm has this network, for the weights that our package finds."""
    return backbone.startswith("efficientnet_lite")


def fastai(X: np.ndarray, y: np.ndarray, setting: Setting) -> Predict:
    learner = fastai_learner(X, y, setting)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(5)

    def predict(images: np.ndarray) -> np.ndarray:
        with learner.no_bar(), learner.no_logging():
            scores, _ = learner.get_preds(dl=plain_loader(learner, images, setting.size))
        return np.array(learner.dls.vocab)[scores.argmax(1).numpy()]

    return predict


def fastai_learner(X: np.ndarray, y: np.ndarray, setting: Setting) -> Any:
    """Return a learner with fastai's defaults and the weights of our backbone."""
    from fastai.vision import all as vision

    from transferclf import get_backbone

    record = get_backbone(setting.backbone)
    mean, std = (
        [value / 255] * 3 for value in (record.preprocessing.mean, record.preprocessing.std)
    )
    block = vision.DataBlock(
        (vision.ImageBlock, vision.CategoryBlock),
        getters=[vision.ItemGetter(0), vision.ItemGetter(1)],
        splitter=vision.IndexSplitter([]),
        item_tfms=vision.Resize(setting.size),
        batch_tfms=[*vision.aug_transforms(), vision.Normalize.from_stats(mean, std)],
    )
    vision.set_seed(setting.seed)
    # Processes that load images ahead would only add CPU seconds.
    loaders = block.dataloaders(list(zip(X, y.tolist(), strict=True)), num_workers=0)
    learner = vision.vision_learner(
        loaders, f"tf_{setting.backbone}", pretrained=False, normalize=False
    )
    load_weights(learner.model[0].model, record)
    return learner


def plain_loader(learner: Any, X: np.ndarray, size: int) -> Any:
    """Return a loader of images that are not varied; fastai's resize leaves them as they are."""
    return learner.dls.test_dl([*pixels_of(X, size)], num_workers=0)


def load_weights(network: Any, record: Any) -> None:
    """Give timm's network the weights of a file, which has the same arrays in the same order."""
    import torch

    from transferclf.backbones.torch_file import read_torch_file
    from transferclf.backbones.weights import pretrained_file

    arrays = read_torch_file(pretrained_file(record, (64, 64)))
    names = list(network.state_dict())
    # The last arrays of the file are those of the classification layer.
    values = [torch.from_numpy(np.array(value)) for value in arrays.values()][: len(names)]
    network.load_state_dict(dict(zip(names, values, strict=True)))


def fastai_features(X: np.ndarray, setting: Setting) -> np.ndarray:
    """Return the mean of the maps of fastai's network before training, from its own loader."""
    import torch

    learner = fastai_learner(X, np.arange(len(X)) % 2, setting)
    body = learner.model[0].eval()
    with torch.no_grad():
        parts = [body(batch).mean((2, 3)) for (batch,) in plain_loader(learner, X, setting.size)]
    return torch.cat(parts).numpy()


# --- Keras


def keras_guide(X: np.ndarray, y: np.ndarray, setting: Setting, is_folded: bool = False) -> Predict:
    """Train a head on the frozen network, then all layers; batch norm keeps its statistics.

    If `is_folded`, batch norm becomes part of the layers before it, as in our fine-tuning.
    """
    pixels, classes, targets = keras_data(X, y, setting)
    base, model = keras_network(setting, len(classes), as_guide=True, is_folded=is_folded)
    base.trainable = False
    keras_fit(model, pixels, targets, epochs=20)
    base.trainable = True
    keras_fit(model, pixels, targets, epochs=10, learning_rate=1e-5)
    return keras_predict(model, classes, setting.size)


def keras_plain(X: np.ndarray, y: np.ndarray, setting: Setting) -> Predict:
    """Train head and network together, with batch norm, at Adam's own rate."""
    pixels, classes, targets = keras_data(X, y, setting)
    _, model = keras_network(setting, len(classes), as_guide=False)
    keras_fit(model, pixels, targets, epochs=10)
    return keras_predict(model, classes, setting.size)


def keras_data(
    X: np.ndarray, y: np.ndarray, setting: Setting
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pixels, the classes and the number of each image's class; sets Keras' seed."""
    import keras

    keras.utils.set_random_seed(setting.seed)
    return pixels_of(X, setting.size), *np.unique(y, return_inverse=True)


def keras_network(
    setting: Setting, n_classes: int, as_guide: bool, is_folded: bool = False
) -> tuple[keras.Model, keras.Model]:
    """Return the backbone, and a model from pixels to the logits of classes."""
    import keras
    from keras import layers

    from transferclf import get_backbone
    from transferclf.backbones.preprocessing import scale_pixels
    from transferclf.backbones.weights import build_backbone
    from transferclf.graphs.folding import fold_batch_norm

    record = get_backbone(setting.backbone)
    side = (setting.size, setting.size)
    base = build_backbone(record, "pretrained", side, seed=setting.seed)
    if is_folded:
        base = fold_batch_norm(base)
    x = inputs = keras.Input((*side, 3))
    if as_guide:
        x = layers.RandomRotation(0.1)(layers.RandomFlip("horizontal")(x))
    x = base(scale_pixels(x, record.preprocessing), training=False if as_guide else None)
    x = layers.GlobalAveragePooling2D()(x)
    if as_guide:
        x = layers.Dropout(0.2)(x)
    return base, keras.Model(inputs, layers.Dense(n_classes)(x))


def keras_fit(
    model: keras.Model,
    pixels: np.ndarray,
    targets: np.ndarray,
    epochs: int,
    learning_rate: float = 1e-3,
) -> None:
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(learning_rate), loss)
    model.fit(pixels, targets, epochs=epochs, verbose=0)


def keras_predict(model: keras.Model, classes: np.ndarray, size: int) -> Predict:
    return lambda X: classes[model.predict(pixels_of(X, size), verbose=0).argmax(axis=1)]
