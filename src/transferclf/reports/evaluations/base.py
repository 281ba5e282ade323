"""Base of the evaluations of all kinds of targets."""

from __future__ import annotations

from abc import abstractmethod

from sklearn.utils import Bunch

from transferclf._printing import printable
from transferclf.reports.names import jsonable

# Values for each sample, left out of `to_dict` unless they are asked for.
PER_SAMPLE = ("y_true", "y_pred", "y_proba")


class Measures(Bunch):
    """Measures as attributes and by name, which can be printed and turned into JSON."""

    def to_dict(self, *, per_sample: bool = False) -> dict[str, object]:
        """Return the measures as plain lists, dicts and numbers, as JSON has them.

        Parameters
        ----------
        per_sample : bool, default=False
            Whether to include `y_true`, `y_pred` and `y_proba`.

        Returns
        -------
        dict of str to object
            Keys are strings, also those of `top_k`, and undefined values are None.
        """
        left_out = () if per_sample else PER_SAMPLE
        return {name: jsonable(value) for name, value in self.items() if name not in left_out}

    @abstractmethod
    def _texts(self) -> list[str]:
        """Return the parts of the printed text; empty ones are left out."""

    def __str__(self) -> str:
        return printable("\n\n".join(filter(None, self._texts())))
