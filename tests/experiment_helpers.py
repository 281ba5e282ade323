"""Experiments in a process that may be killed; a log lists the fits that were started.

Run as a script: DIRECTORY LOG [WHERE]. With WHERE "fit:N" it logs the N-th fit and hangs in it.
With "replace:N" or "replaced:N" it is killed just before or after the N-th file is put in place.
"""

import os
import signal
import sys
import time

from sklearn.datasets import load_iris
from sklearn.naive_bayes import GaussianNB


class LoggedBayes(GaussianNB):
    """Naive Bayes that logs each fit."""

    def fit(self, X, y):
        with open(os.environ["FIT_LOG"], "a") as log:
            log.write(f"{self.var_smoothing} {X.sum():.6f}\n")
        if os.environ.get("HANG_AT") == str(len(fits())):
            print("hanging", flush=True)
            time.sleep(600)
        time.sleep(float(os.environ.get("FIT_SECONDS", "0")))
        return super().fit(X, y)


def fits():
    if not os.path.exists(os.environ["FIT_LOG"]):
        return []
    with open(os.environ["FIT_LOG"]) as log:
        return log.read().splitlines()


def run(directory):
    from transferclf.reports import run_experiments

    estimators = {"plain": LoggedBayes(), "smooth": LoggedBayes(var_smoothing=1.0)}
    return run_experiments(estimators, *load_iris(return_X_y=True), cv=3, directory=directory)


def kill_at_replacement(number, is_done_first):
    replace, calls = os.replace, []

    def counted(source, target):
        calls.append(target)
        if is_done_first:
            replace(source, target)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        if not is_done_first:
            replace(source, target)

    os.replace = counted


if __name__ == "__main__":
    where, _, number = (sys.argv[3] if len(sys.argv) > 3 else "").partition(":")
    if where == "fit":
        os.environ["HANG_AT"] = str(len(fits()) + int(number))
    elif where:
        kill_at_replacement(int(number), where == "replaced")
    run(sys.argv[1])
