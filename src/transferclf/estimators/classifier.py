"""TransferClassifier: says what to do, does little itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.utils.validation import check_is_fitted

from transferclf.estimators.base import available_unless_refused
from transferclf.estimators.predicting import ClassifierPredictions
from transferclf.estimators.recipes import check_partial

if TYPE_CHECKING:
    import keras


class TransferClassifier(ClassifierPredictions):
    """Classify images by a pretrained network and a head trained on its features.

    The frozen part of the network is a constant function: every distinct image goes through it
    once, and its activations serve all folds, grid points and clones. By default the head is
    softmax regression on standardised features, fitted to its optimum by L-BFGS; hidden layers
    are trained by a Keras optimizer; and with `trainable_layers` the last layers of the network
    are then trained together with the head.

    Parameters
    ----------
    backbone : str, ConvNet or keras.Model, default="tiny"
        One of :func:`transferclf.list_backbones`; a :class:`transferclf.ConvNet`, to be trained
        from nothing; or a functional model of your own. "tiny" is bundled, needs no download.
    weights : {"pretrained", "imagenet"}, path or None, default="pretrained"
        "pretrained" is ImageNet for the networks of `keras.applications` and the bundled file for
        "tiny". None starts from random weights that `random_state` determines.
    image_size : int, (int, int) or None, default=None
        Side, or height and width, in pixels at which the network sees the images; None is the
        backbone's own, 64 for a ConvNet.
    resize : {"crop", "stretch", "pad"}, default="crop"
        "crop" takes the largest centred part, "stretch" distorts, "pad" adds black borders.
    pooling : {"avg", "max", "flatten"}, default="avg"
        How the last activation maps become features.
    preprocessing : str, default="auto"
        Scaling of the pixels, inside the network; "auto" is what the backbone was trained with.
        "none", "rescale" (to 0 to 1), "caffe", "tf" or "torch" say otherwise. "standardize" and
        "zca" (whitening) are fitted to the training images, for networks from nothing.
    zca_epsilon : float, default=0.01
        What whitening adds to the variances of pixels on the scale 0 to 1.
    hidden_units : tuple of int, default=()
        Widths of the head's hidden layers; () is softmax regression.
    activation : str, default="relu"
        Activation of the hidden layers, one of Keras' names.
    batch_norm : {None, "before", "after"}, default=None
        Batch normalisation in the hidden layers, before or after the activation.
    dropout : float or sequence of float, default=0.0
        Rate of dropout after each hidden layer, or on the features where there is none; one for
        all or one for each.
    head : callable, keras.Layer, keras.Sequential or None, default=None
        Layers of your own in the place of the hidden ones: gets a Keras tensor of what the
        backbone ends in, mostly a map (n, h, w, c), and returns features (n, d). A function is
        called in each fit and makes new layers; of a layer or model a copy is trained.
    l1 : float, default=0.0
        Weight of the sum of absolute values of the head's kernels, beside the mean cross-entropy.
    l2 : float or "auto", default="auto"
        Weight of the sum of their squares. "auto" chooses it by cross-validation on the training
        images for softmax regression, and is 0.01 for other heads and 0 for networks from nothing.
    optimizer : str or keras.optimizers.Optimizer, default="auto"
        "lbfgs", one of Keras' names ("adam", "sgd", ...) or an optimizer, which is copied. "auto"
        is L-BFGS where it can be, without hidden layers, dropout and `l1`, and Adam elsewhere.
    learning_rate : float or None, default=None
        Step size of a Keras optimizer; None is its own.
    lr_schedule : {None, "plateau", "cosine", "exponential"} or Keras schedule, default=None
        "plateau" makes it a fifth where the (validation) loss no longer falls; "cosine" takes it
        to nothing and "exponential" to a hundredth until the end of each phase.
    epochs : int, default=20
        How often a Keras optimizer sees the images while it trains the head.
    batch_size : int, default=32
        How many at a time.
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
        Told of the epochs of each phase by a Keras optimizer: the very objects (clones have
        copies), and what one raises comes out of `fit`. They see the model of what is trained.
    warm_start : bool, default=False
        Whether `fit` goes on from what the last one learned, also from where it was interrupted.
    trainable_layers : int or str, default=0
        What of the backbone is trained after the head: its last n layers, "all", or the layer or
        block of this name ("block5", "conv5_block3") and everything after it. Batch
        normalisation keeps its statistics.
    fine_tune_epochs : int, default=10
        Epochs for head and layers together.
    fine_tune_learning_rate : float, default=1e-05
        Step size for them; Adam where `optimizer` is "auto" or "lbfgs".
    layer_decay : float or None, default=None
        Factor on the steps of each trained layer, once for each layer it is below the head.
    augmentation : {None, "light", "medium", "strong"} or Augmentation, default=None
        How training images are varied: afresh in each epoch where all layers are trained, else in
        fixed views whose activations are stored too.
    test_time_augmentation : {None, "views", "crops", "both"}, default=None
        Whether predictions are means over the views of an image, over its two extreme crops, or
        over both.
    oversample : bool, default=False
        Whether images of smaller classes are repeated up to the size of the largest.
    class_weight : {"balanced"}, dict or None, default=None
        Factor for the samples of each class; "balanced" makes all classes weigh the same.
    image_shape : (h, w), (h, w, c), "infer" or None, default=None
        What each row of a 2-D X is. "infer" takes a square gray image where the length of the
        rows is a square number, else a square RGB image where a third of it is one, else a strip
        of gray pixels, one pixel high, which is stretched whatever `resize` says.
    pixel_range : None, "minmax" or (low, high), default=None
        What black and white are. None decides once, at fit: 0 to 255 for 8-bit, 0 to 65535 for
        16-bit integers, 0 to 1 or 0 to 255 for floats. "minmax" stretches each image.
    cache : {"memory", None}, path or FeatureStore, default="memory"
        Where activations are kept: in one bounded store of this process; in a folder, for other
        processes and later runs too; in a store of your own; or nowhere.
    engine : {"auto", "tensorflow", "onnxruntime", "openvino", "keras"}, default="auto"
        What runs the frozen part; see :func:`transferclf.engines.forward.compile_forward`.
    precision : {"float32", "bfloat16"}, default="float32"
        Of the frozen part. bfloat16 is faster on some processors and changes features a little.
    random_state : int, RandomState or None, default=None
        Determines random weights (`weights=None`), the initial weights of hidden layers, dropout
        and the order of the images.
    verbose : int, default=0
        1 shows progress.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    model_ : keras.Model
        The whole classifier as one flat Keras model from pixels between 0 and 255 to
        probabilities; built when first asked for. It can be exported as it is, by its `save` and
        by `export` to a SavedModel, ONNX and LiteRT.
    history_ : dict of str to list of float
        "loss" and "accuracy" on the training images after each iteration or epoch, those of
        fine-tuning after those of the head; "val_loss" and "val_accuracy" on validation images,
        and the "learning_rate" of Keras' optimizers.
    phases_ : list of dict
        What `history_` is made of, one after the other: "part" is "head", "fine-tuning" or
        "network" (from nothing), "unit" is "iteration" or "epoch", and "length" how many of them
        there were. "kept" is after how many the weights in use were reached: fewer if early
        stopping ("stopped_early") brought earlier ones back, 0 for those the phase began with.
    n_iter_, n_head_iter_ : int
        Iterations and epochs that were needed; those before fine-tuning.
    l2_ : float
        The penalty in use.
    sample_indices_ : ndarray of int
        Which images were learned from, repeated where classes were oversampled.
    augmentation_ : Augmentation or None
        How they were varied.
    pixel_range_ : tuple, "minmax" or None
        The pixel range in use; None where every image's own mode says it.
    n_features_in_ : int
        Length of the rows; only after fitting on rows.
    feature_names_in_ : ndarray of str objects, shape (n_features_in_,)
        Names of their columns; only after fitting on a table whose columns have names.

    Notes
    -----
    Callbacks are told that training begins and ends once for each phase, of the head and of
    fine-tuning; L-BFGS has no epochs to tell of. The `history` of a `keras.callbacks.History` goes
    on over phases and fits, its `epoch` is of the last phase. Callbacks that save the network are
    refused, as only a part of it is trained: :func:`transferclf.save_model` saves all.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from transferclf import TransferClassifier
    >>> digits = load_digits()
    >>> classifier = TransferClassifier("tiny", pixel_range=(0, 16))
    >>> classifier.fit(digits.images[:100], digits.target[:100]).predict(digits.images[:3])
    array([0, 1, 2])
    """

    def __init__(
        self,
        backbone: Any = "tiny",
        *,
        weights: Any = "pretrained",
        image_size: Any = None,
        resize: str = "crop",
        pooling: str = "avg",
        preprocessing: str = "auto",
        zca_epsilon: float = 0.01,
        hidden_units: Any = (),
        activation: str = "relu",
        batch_norm: str | None = None,
        dropout: Any = 0.0,
        head: Any = None,
        l1: float = 0.0,
        l2: Any = "auto",
        optimizer: Any = "auto",
        learning_rate: float | None = None,
        lr_schedule: Any = None,
        epochs: int = 20,
        batch_size: int = 32,
        max_iter: int = 1000,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 5,
        callbacks: Any = None,
        warm_start: bool = False,
        trainable_layers: Any = 0,
        fine_tune_epochs: int = 10,
        fine_tune_learning_rate: float = 1e-5,
        layer_decay: float | None = None,
        augmentation: Any = None,
        test_time_augmentation: str | None = None,
        oversample: bool = False,
        class_weight: Any = None,
        image_shape: Any = None,
        pixel_range: Any = None,
        cache: Any = "memory",
        engine: str = "auto",
        precision: str = "float32",
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.image_size = image_size
        self.resize = resize
        self.pooling = pooling
        self.preprocessing = preprocessing
        self.zca_epsilon = zca_epsilon
        self.hidden_units = hidden_units
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.head = head
        self.l1 = l1
        self.l2 = l2
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.lr_schedule = lr_schedule
        self.epochs = epochs
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.callbacks = callbacks
        self.warm_start = warm_start
        self.trainable_layers = trainable_layers
        self.fine_tune_epochs = fine_tune_epochs
        self.fine_tune_learning_rate = fine_tune_learning_rate
        self.layer_decay = layer_decay
        self.augmentation = augmentation
        self.test_time_augmentation = test_time_augmentation
        self.oversample = oversample
        self.class_weight = class_weight
        self.image_shape = image_shape
        self.pixel_range = pixel_range
        self.cache = cache
        self.engine = engine
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, validation_data: Any = None
    ) -> TransferClassifier:
        """Learn to tell the classes apart.

        If it is interrupted, the classifier has what the last epoch came to, or is as it was.

        Parameters
        ----------
        X : array-like or sequence of images, n of them
            See :func:`transferclf.images.check_images`.
        y : array-like of shape (n,)
            Class labels: strings, integers or booleans.
        sample_weight : array-like of shape (n,) or None, default=None
            Weight of each image; a weight of 2 is the same as the image twice.
        validation_data : (X, y) or None, default=None
            Images that are measured after each epoch, and decide early stopping; nothing is then
            held out of X.

        Returns
        -------
        self

        Raises
        ------
        ImageError, InvalidParameterError, NetworkError, WeightsError
            If the images, a parameter, the network or its weights cannot be used.
        ValueError
            If y, `sample_weight` or `validation_data` does not fit the images.
        DivergenceError
            If training ends in numbers that are not finite. If the classifier was fitted before,
            it is as it was; a new one has what the last finite epoch came to, if there was one.

        Warns
        -----
        TransferclfWarning
            If parameters were set that have no effect; all of them are named.
        """
        self._fit(X, y, sample_weight, validation_data)
        return self

    @available_unless_refused(check_partial)
    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> TransferClassifier:
        """Train the head on some more images: one epoch by a Keras optimizer.

        Features are standardised by the mean and deviation of all images so far. When these change,
        the first layer of the head is changed so that scores stay as they are; under a `head` of
        your own, which cannot be changed so, those of the first images stay. `epochs`,
        `lr_schedule` and `early_stopping` do not count here. A call that fails changes nothing.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.
        classes : array-like of shape (n_classes,) or None, default=None
            All classes that there will be; needed in the first call.

        Returns
        -------
        self

        Raises
        ------
        UnavailableMethodError
            If the head cannot be trained so: `optimizer="lbfgs"`, `class_weight="balanced"`, or
            layers of the backbone. `hasattr(classifier, "partial_fit")` tells.
        ValueError
            If the classes are not known, or y has others.
        DivergenceError
            If training ends in numbers that are not finite.

        Warns
        -----
        TransferclfWarning
            If the first call gets few images or images of one class.
        """
        self._partial_fit(X, y, classes, sample_weight)
        return self

    @property
    def model_(self) -> keras.Model:
        """The whole classifier as one flat Keras model, from pixels (0 to 255) to probabilities."""
        check_is_fitted(self)
        if self._model is None:
            self._model = self._assembled_model()
        return self._model
