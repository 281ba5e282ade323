"""Image classification by transfer learning for people who live in scikit-learn.

The public names are loaded on first use (PEP 562): importing the package imports neither
TensorFlow nor scikit-learn, and TensorFlow is imported only when a network has to run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transferclf.augmentation.recipe import Augmentation as Augmentation
    from transferclf.backbones.convnet import ConvNet as ConvNet
    from transferclf.backbones.onnx import OnnxBackbone as OnnxBackbone
    from transferclf.backbones.preprocessing import Preprocessing as Preprocessing
    from transferclf.backbones.registry import get_backbone as get_backbone
    from transferclf.backbones.registry import list_backbones as list_backbones
    from transferclf.backbones.registry import register_backbone as register_backbone
    from transferclf.datasets import load_image_dataset as load_image_dataset
    from transferclf.datasets import load_image_folder as load_image_folder
    from transferclf.datasets import load_image_table as load_image_table
    from transferclf.estimators.classifier import TransferClassifier as TransferClassifier
    from transferclf.estimators.extractor import CNNFeatureExtractor as CNNFeatureExtractor
    from transferclf.estimators.imagenet import predict_imagenet as predict_imagenet
    from transferclf.estimators.regressor import TransferRegressor as TransferRegressor
    from transferclf.estimators.unknown import UnknownRejector as UnknownRejector
    from transferclf.estimators.warming import warm as warm
    from transferclf.exporting import export as export
    from transferclf.exporting import predict_exported as predict_exported
    from transferclf.exporting import read_exported as read_exported
    from transferclf.features import FeatureStore as FeatureStore
    from transferclf.persistence import load_model as load_model
    from transferclf.persistence import save_model as save_model
    from transferclf.reports.ranking import top_k as top_k

__version__ = "0.2.0"

_HOME = {
    "Augmentation": "transferclf.augmentation.recipe",
    "CNNFeatureExtractor": "transferclf.estimators.extractor",
    "ConvNet": "transferclf.backbones.convnet",
    "FeatureStore": "transferclf.features",
    "OnnxBackbone": "transferclf.backbones.onnx",
    "Preprocessing": "transferclf.backbones.preprocessing",
    "TransferClassifier": "transferclf.estimators.classifier",
    "TransferRegressor": "transferclf.estimators.regressor",
    "UnknownRejector": "transferclf.estimators.unknown",
    "export": "transferclf.exporting",
    "get_backbone": "transferclf.backbones.registry",
    "list_backbones": "transferclf.backbones.registry",
    "load_image_dataset": "transferclf.datasets",
    "load_image_folder": "transferclf.datasets",
    "load_image_table": "transferclf.datasets",
    "load_model": "transferclf.persistence",
    "predict_exported": "transferclf.exporting",
    "predict_imagenet": "transferclf.estimators.imagenet",
    "read_exported": "transferclf.exporting",
    "register_backbone": "transferclf.backbones.registry",
    "save_model": "transferclf.persistence",
    "top_k": "transferclf.reports.ranking",
    "warm": "transferclf.estimators.warming",
}

__all__ = [
    "Augmentation",
    "CNNFeatureExtractor",
    "ConvNet",
    "FeatureStore",
    "OnnxBackbone",
    "Preprocessing",
    "TransferClassifier",
    "TransferRegressor",
    "UnknownRejector",
    "export",
    "get_backbone",
    "list_backbones",
    "load_image_dataset",
    "load_image_folder",
    "load_image_table",
    "load_model",
    "predict_exported",
    "predict_imagenet",
    "read_exported",
    "register_backbone",
    "save_model",
    "top_k",
    "warm",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
