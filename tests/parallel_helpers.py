"""Substitutes for a prefix in worker processes, which import this module quickly."""

import os
import signal
import time

import numpy as np
from extraction_helpers import Moments, moments

unpacked = 0


class Places(Moments):
    """Substitute for a prefix whose rows say in which process it ran, and how often it came."""

    def __setstate__(self, state):
        global unpacked
        unpacked += 1

    def __getstate__(self):
        return {"large": np.zeros(300_000)}  # joblib puts it into shared memory

    def forward(self):
        return lambda pixels: np.full((len(pixels), 2), [os.getpid(), unpacked], np.float32)


class Deadly(Moments):
    """Substitute for a prefix that ends the first worker that gets one image."""

    def __init__(self, folder, image):
        self.folder, self.image = folder, image

    def forward(self):
        return self.rows

    def rows(self, pixels):
        is_here = (pixels == self.image).all(axis=(1, 2, 3)).any()
        if is_here and not (self.folder / "ended").exists():
            limit = time.monotonic() + 60
            while not (self.folder / "go").exists() and time.monotonic() < limit:
                time.sleep(0.01)
            (self.folder / "ended").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with (self.folder / "computed").open("ab") as log:
            log.write(np.array(pixels[:, 0, 0], np.uint8).tobytes())
        return moments(pixels)
