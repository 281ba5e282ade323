"""Looking at results: measures, displays, experiments, audits and a page of all of them.

The public names are loaded on first use (PEP 562). The libraries of the extra `reports` (Jinja2,
matplotlib, pandas) are imported where they are needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transferclf.reports.auditing.audits import Audit as Audit
    from transferclf.reports.auditing.audits import audit as audit
    from transferclf.reports.displays.balance import ClassBalanceDisplay as ClassBalanceDisplay
    from transferclf.reports.displays.embedding import EmbeddingDisplay as EmbeddingDisplay
    from transferclf.reports.displays.gradcam import GradCAMDisplay as GradCAMDisplay
    from transferclf.reports.displays.grid import ImageGridDisplay as ImageGridDisplay
    from transferclf.reports.displays.history import (
        TrainingHistoryDisplay as TrainingHistoryDisplay,
    )
    from transferclf.reports.displays.inputs import NetworkInputDisplay as NetworkInputDisplay
    from transferclf.reports.displays.regression import (
        RegressionErrorDisplay as RegressionErrorDisplay,
    )
    from transferclf.reports.displays.unknowns import UnknownDisplay as UnknownDisplay
    from transferclf.reports.evaluation import evaluate as evaluate
    from transferclf.reports.evaluations.classes import Evaluation as Evaluation
    from transferclf.reports.evaluations.multilabel import (
        MultilabelEvaluation as MultilabelEvaluation,
    )
    from transferclf.reports.evaluations.numbers import (
        RegressionEvaluation as RegressionEvaluation,
    )
    from transferclf.reports.experiments.comparing import compare as compare
    from transferclf.reports.experiments.running import load_experiments as load_experiments
    from transferclf.reports.experiments.running import run_experiments as run_experiments
    from transferclf.reports.page.writing import report as report
    from transferclf.reports.prediction_tables import prediction_table as prediction_table
    from transferclf.reports.unknowns import UnknownEvaluation as UnknownEvaluation
    from transferclf.reports.unknowns import evaluate_unknowns as evaluate_unknowns

# No module has the name of an object in it: importing the module would replace the object.
_HOME = {
    "Audit": "transferclf.reports.auditing.audits",
    "ClassBalanceDisplay": "transferclf.reports.displays.balance",
    "EmbeddingDisplay": "transferclf.reports.displays.embedding",
    "Evaluation": "transferclf.reports.evaluations.classes",
    "GradCAMDisplay": "transferclf.reports.displays.gradcam",
    "ImageGridDisplay": "transferclf.reports.displays.grid",
    "MultilabelEvaluation": "transferclf.reports.evaluations.multilabel",
    "NetworkInputDisplay": "transferclf.reports.displays.inputs",
    "RegressionErrorDisplay": "transferclf.reports.displays.regression",
    "RegressionEvaluation": "transferclf.reports.evaluations.numbers",
    "TrainingHistoryDisplay": "transferclf.reports.displays.history",
    "UnknownDisplay": "transferclf.reports.displays.unknowns",
    "UnknownEvaluation": "transferclf.reports.unknowns",
    "audit": "transferclf.reports.auditing.audits",
    "compare": "transferclf.reports.experiments.comparing",
    "evaluate": "transferclf.reports.evaluation",
    "evaluate_unknowns": "transferclf.reports.unknowns",
    "load_experiments": "transferclf.reports.experiments.running",
    "prediction_table": "transferclf.reports.prediction_tables",
    "report": "transferclf.reports.page.writing",
    "run_experiments": "transferclf.reports.experiments.running",
}

__all__ = [
    "Audit",
    "ClassBalanceDisplay",
    "EmbeddingDisplay",
    "Evaluation",
    "GradCAMDisplay",
    "ImageGridDisplay",
    "MultilabelEvaluation",
    "NetworkInputDisplay",
    "RegressionErrorDisplay",
    "RegressionEvaluation",
    "TrainingHistoryDisplay",
    "UnknownDisplay",
    "UnknownEvaluation",
    "audit",
    "compare",
    "evaluate",
    "evaluate_unknowns",
    "load_experiments",
    "prediction_table",
    "report",
    "run_experiments",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
