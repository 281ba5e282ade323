"""The description of the parameters that the estimators with a head share."""

from __future__ import annotations

from collections.abc import Callable
from string import Template
from typing import TypeVar

from transferclf.training.recipe import BATCH_SIZE, LEAST_EPOCHS, STEPS, TUNING_BATCH_SIZE

Kind = TypeVar("Kind", bound=type)

PARAMETERS = Template(
    """\
    backbone : str, path, ConvNet, OnnxBackbone or keras.Model, default="tiny"
        One of :func:`transferclf.list_backbones`; a :class:`transferclf.ConvNet`, to be trained
        from nothing; a functional model of your own; or an ONNX file. "tiny" is bundled.
    weights : {"pretrained", "imagenet"}, path or None, default="pretrained"
        "pretrained" is ImageNet for the networks of `keras.applications` and the bundled file for
        "tiny". None starts from random weights that `random_state` determines.
    image_size : int, (int, int) or None, default=None
        Side, or height and width, in pixels at which the network sees the images; None is the
        backbone's own, 64 for a ConvNet.
    resize : {"auto", "crop", "stretch", "pad"}, default="auto"
        "crop" takes the largest centred part, "stretch" distorts, "pad" adds black borders; "auto"
        is that of the backbone's training.
    pooling : {"auto", "avg", "max", "flatten", "cls", "cls+avg"}, default="auto"
        How maps or tokens become features: mean, maximum or all values, the class token, or this
        and the mean. "auto" is what the network's own library does, "avg" for maps.
    preprocessing : str or Preprocessing, default="auto"
        Scaling of the pixels, inside the network; "auto" is that of the backbone's training.
        Others are "none", "rescale" (to 0 to 1), "caffe", "tf", "torch" or a record. "standardize"
        and "zca" (whitening) are fitted to the training images, for random weights.
    image_shape : (h, w), (h, w, c), "infer" or None, default=None
        Shape of the image in each row of a 2-D X; "infer" is explained in
        :class:`transferclf.CNNFeatureExtractor`.
    pixel_range : None, "minmax" or (low, high), default=None
        Numbers of black and white. None decides once, at fit: 0 to 255 for 8-bit, 0 to 65535 for
        16-bit integers, 0 to 1 or 0 to 255 for floats. "minmax" stretches each image.
    cache : {"memory", None}, path or FeatureStore, default="memory"
        Where activations are kept: in one bounded store of this process; in a folder, for other
        processes and later runs too; in a store of your own; or nowhere.
    engine : {"auto", "tensorflow", "onnxruntime", "openvino", "torch", "keras"}, default="auto"
        Engine that runs the frozen part. "auto" is the fastest that can run it here.
    precision : {"float32", "bfloat16"}, default="float32"
        Of the backbone. bfloat16 is faster on some processors and changes features a little, and
        trained weights by more. These, and the state of the optimizer, stay in float32.
    on_error : {"raise", "skip"}, default="raise"
        What happens to images that cannot be used. "raise" names all of them in one error. "skip"
        leaves them out of `fit` and `score`, with one warning. Results have rows of NaN for them,
        but `predict` of a classifier raises the error, because no label can be NaN.
    n_jobs : int or None, default=None
        Processes that decode images and run the frozen part; -1 is one for each core. None is 1,
        unless `joblib.parallel_config` says otherwise, which also names a cluster
        (``docs/tutorials/scaling_out.md``). Results are the same.
    random_state : int, RandomState or None, default=None
        Determines random weights (`weights=None`, hidden layers), dropout and order of images.
    verbose : int, default=0
        1 shows progress.
    zca_epsilon : float, default=0.01
        Added by whitening to the variances of pixels on the scale 0 to 1.
    hidden_units : tuple of int, default=()
        Widths of the head's hidden layers; () is $linear.
    activation : str, default="relu"
        Activation of the hidden layers, one of Keras' names.
    batch_norm : {None, "before", "after"}, default=None
        Batch normalisation in the hidden layers, before or after the activation.
    dropout : float or sequence of float, default=0.0
        Rate after each hidden layer, one for all or for each; without these, on the features.
    head : callable, keras.Layer, keras.Sequential or None, default=None
        Your own layers in the place of the hidden ones, from a Keras tensor of the backbone's last
        activations, mostly a map (n, h, w, c), to features (n, d). A function makes new layers in
        each fit; a layer or model is copied.
    l1 : float, default=0.0
        Weight of the sum of absolute values of the head's kernels, beside the mean loss.
    l2 : float or "auto", default="auto"
        Weight of the sum of their squares. "auto" chooses it on the training images for heads
        without layers, $choice. It is 0.01 for other heads, and 0 for
        networks from nothing.
    optimizer : str or keras.optimizers.Optimizer, default="auto"
        $fits, one of Keras' names ("adam", "sgd", ...) or an optimizer, which is copied. "auto" is
        $best where it can be, without hidden layers, dropout and `l1`, and
        Adam elsewhere; AdamW for fine-tuning.
    learning_rate : float or None, default=None
        Step size of a Keras optimizer; None is its own.
    lr_schedule : str, Keras schedule or None, default="auto"
        "plateau" makes it a fifth where the (validation) loss no longer falls; "cosine" ends at 0
        and "exponential" at a hundredth, at the end of each phase. None is constant. "auto" is
        "cosine" for fine-tuning, and None elsewhere or where the optimizer has a schedule.
    epochs : int, default=20
        How often a Keras optimizer sees the images while it trains the head.
    batch_size : int or "auto", default="auto"
        How many at a time. "auto" is $batch, and $small in fine-tuning.
    max_iter : int, default=1000
        L-BFGS iterations at most.
    early_stopping : bool, default=False
        Whether Keras' optimizers stop where the loss on validation images has not fallen for
        `patience` epochs, and the weights of the best epoch come back.
    validation_fraction : float, default=0.1
        How much of the training images is held out for that, unless `fit` is given others.
    patience : int, default=5
        In epochs.
    callbacks : sequence of keras.callbacks.Callback or None, default=None
        Called at the epochs of each phase of a Keras optimizer; clones have copies. They see the
        model of the trained part, and `fit` raises their errors.
    warm_start : bool, default=False
        Whether `fit` goes on from the result of the last one, also of an interrupted one.
    trainable_layers : int or str, default=0
        The layers of the backbone to train after the head: the last n, "all", or the layer or
        block of this name ("block5", "conv5_block3") and everything after it. Batch
        normalisation keeps its statistics. "auto" trains the last block and then all. It takes all
        layers, unless the block or the frozen network has a clearly lower loss on images that are
        held out. Where all layers gain little there, it takes a mean of the weights of both
        trainings, unless that is worse by more than two standard errors. That costs at most twice
        as much as "all"; `tuning_` has the choice.
    fine_tune_epochs : int or "auto", default="auto"
        Epochs for head and layers together. "auto" is as many as give at least $steps steps, and
        $passes or more.
    fine_tune_learning_rate : float, default=0.0004
        Step size for them.
    warmup_fraction : float, default=0.1
        Share of their steps in which the step size rises, where it follows a schedule by name.
    layer_decay : float or None, default=None
        Factor on the steps of each trained layer, once for each layer it is below the head.
    weight_decay : float, default=0.01
        Decoupled decay of the weights in fine-tuning by an optimizer that is given by name.
    global_clipnorm : float or None, default=1.0
        Largest norm of all gradients of a step together, for the same optimizers.
    soup : float or "auto", default="auto"
        Share of the fine-tuned weights in the result; the rest are those before. With "auto", the
        usual share depends on the loss on validation images: 0.75 if that share lowers it by a
        tenth of the loss that the same mean scores for all images would have, 0.5 if by less, and
        0.25 if by nothing (regressors: 0.75 if it lowers it at all). Of the shares whose loss is at
        most a standard error above the lowest, the nearest to the usual one is taken. That may be
        0. These images are a part of the training images, unless `fit` is given others. Scores are
        then divided by the temperature, from 1 on, of the lowest loss.
    augmentation : {"auto", None, "light", "medium", "strong"} or Augmentation, default="auto"
        How training images are varied: afresh in each epoch where all layers are trained, or all
        but the cheap first ones, else in fixed views whose activations are stored too. An
        Augmentation may also mix activations. "auto" is $varied.
    test_time_augmentation : {None, "views", "crops", "both"}, default=None
        Whether predictions are means over an image's views, its two extreme crops, or both.
    max_memory : int, str or "auto", default="auto"
        Most memory for features, for activations at the cut, or for pixels where all layers are
        trained: bytes, or a text such as "1GB" or "500MB". More of them are kept in a temporary
        file (in the folder TMPDIR) and read batch by batch; results are the same, those of L-BFGS
        and ridge regression to about three digits. Where layers are trained, the features for the
        head are in memory beside them. "auto" is half of the memory that is free, also within the
        limits of containers and batch systems.
"""
)


def documented(**words: str) -> Callable[[Kind], Kind]:
    """Return a decorator that puts the shared parameters in the place of "$parameters".

    `words` are those in which estimators differ.
    """
    numbers = {"steps": STEPS, "passes": LEAST_EPOCHS}
    numbers |= {"batch": BATCH_SIZE, "small": TUNING_BATCH_SIZE}
    text = PARAMETERS.substitute(words, **numbers)

    def decorated(kind: Kind) -> Kind:
        if kind.__doc__:  # Python can be told to drop documentation
            kind.__doc__ = kind.__doc__.replace("    $parameters\n", text)
        return kind

    return decorated
