"""Libraries that only the reports need, imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any


def extra(name: str) -> Any:
    """Import a module of the extra `reports`, or raise ImportError with the command that helps."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise ImportError(
            f"This part of transferclf.reports needs {package}, which is not installed. "
            'Install it by: pip install "transferclf[reports]"'
        ) from None
