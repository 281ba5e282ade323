"""
A number instead of a class
===========================

Read the time from the hand of a drawn clock, and find out why an angle should be two numbers.
"""

# %%
# The hand of each clock points anywhere. Colours and sizes are random, places nearly the same.

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

from transferclf import TransferRegressor
from transferclf.reports import RegressionErrorDisplay


def clock(degrees, rng, side=96):
    """Return a picture of a clock whose hand points to an angle, clockwise from twelve."""
    face, ink = (tuple(rng.integers(*limits, 3).tolist()) for limits in [(150, 256), (0, 100)])
    picture = Image.new("RGB", (side, side), tuple(rng.integers(0, 256, 3).tolist()))
    pen, r = ImageDraw.Draw(picture), rng.uniform(34, 44)
    x, y = side / 2 + rng.uniform(-4, 4, 2)
    pen.ellipse([x - r, y - r, x + r, y + r], fill=face)
    end = x + r * np.sin(np.radians(degrees)), y - r * np.cos(np.radians(degrees))
    pen.line([(x, y), end], fill=ink, width=6)
    return np.asarray(picture)


rng = np.random.default_rng(0)
degrees = rng.uniform(0, 360, 900)
X = np.array([clock(angle, rng) for angle in degrees])
X_train, X_test, angle_train, angle_test = X[:600], X[600:], degrees[:600], degrees[600:]

figure, axes = plt.subplots(1, 6, figsize=(9, 1.8), layout="constrained")
for ax, image, angle in zip(axes, X, degrees, strict=False):
    ax.imshow(image)
    ax.set_title(f"{angle:.0f}°")
    ax.axis("off")
plt.show()

# %%
# ``TransferRegressor`` learns numbers. The first attempt learns degrees. Just before and just
# after twelve, the pictures are alike and the numbers are not: 359 and 1.

regressor = TransferRegressor("tiny", image_size=96, cache="memory", random_state=0)
by_degrees = regressor.fit(X_train, angle_train).predict(X_test)


def error(predicted):
    """Return how far the hand is off, in degrees, the short way round."""
    return np.abs((predicted - angle_test + 180) % 360 - 180)


print(f"learned as degrees: median error {np.median(error(by_degrees)):.1f} degrees")

# %%
# Sine and cosine of the angle have no jump. ``y`` may have several columns, one for each number.
# The features are stored, so no image goes through the network again.


def two_numbers(angles):
    return np.column_stack([np.sin(np.radians(angles)), np.cos(np.radians(angles))])


regressor.fit(X_train, two_numbers(angle_train))
sine, cosine = regressor.predict(X_test).T
by_two_numbers = np.degrees(np.arctan2(sine, cosine)) % 360
print(f"learned as two numbers: median error {np.median(error(by_two_numbers)):.1f} degrees")

# %%
# Each point is a clock. Points on the line are right, and so are those in the other corners: 359
# degrees for 1 is two degrees off. Learned as degrees, hands near twelve are read as anything.

figure, axes = plt.subplots(1, 2, figsize=(8, 4), layout="constrained", sharey=True)
ways = {"learned as degrees": by_degrees, "learned as two numbers": by_two_numbers}
for ax, (name, predicted) in zip(axes, ways.items(), strict=True):
    ax.plot([0, 360], [0, 360], color="gray", linewidth=1)
    ax.scatter(angle_test, predicted % 360, s=10, alpha=0.6)
    ax.set(title=name, xlabel="true angle", aspect="equal")
axes[0].set_ylabel("predicted angle")
plt.show()

# %%
# ``RegressionErrorDisplay`` has a row for each output, with the errors by prediction on the
# right.

RegressionErrorDisplay.from_estimator(regressor, X_test, two_numbers(angle_test))
plt.show()
