"""Fitted estimators as files for other programs: ONNX, OpenVINO, LiteRT, SavedModel, Keras."""

from transferclf.exporting.exporting import export
from transferclf.exporting.running import predict_exported, read_exported

__all__ = ["export", "predict_exported", "read_exported"]
