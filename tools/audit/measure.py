"""Measure how well `audit` finds changed copies and swapped labels among real photographs.

    python tools/audit/measure.py DATA

DATA is a folder with sports10/train, caltech_animals35 and blood_smear, each with class folders.
Prints the figures of the tables in docs/tutorials/auditing.md.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from transferclf import CNNFeatureExtractor, load_image_folder
from transferclf.reports import audit

SETS = {"sports10": "train", "caltech_animals35": None, "blood_smear": None}


def recompressed(picture, quality):
    memory = io.BytesIO()
    picture.save(memory, "JPEG", quality=quality)
    return Image.open(memory)


def cropped(picture, share, where):
    width, height = int(picture.width * share), int(picture.height * share)
    left, top = int((picture.width - width) * where), int((picture.height - height) * where)
    return picture.crop((left, top, left + width, top + height))


CHANGES = {
    "JPEG, quality 75": lambda p: recompressed(p, 75),
    "JPEG, quality 30": lambda p: recompressed(p, 30),
    "half the size": lambda p: p.resize((p.width // 2, p.height // 2)),
    "crop, 95 % of each side": lambda p: cropped(p, 0.95, 0.5),
    "crop, 90 %, in a corner": lambda p: cropped(p, 0.9, 0),
    "brighter by 30 %": lambda p: ImageEnhance.Brightness(p).enhance(1.3),
    "darker by 30 %": lambda p: ImageEnhance.Brightness(p).enhance(0.7),
    "turned by 5 degrees": lambda p: p.rotate(5, resample=Image.Resampling.BICUBIC),
    "mirrored": ImageOps.mirror,
    "grey": ImageOps.grayscale,
}


def cosines(photos, generator):
    """Yield, for each change, the cosines that 95 % and 50 % of 60 photographs reach."""
    extractor = CNNFeatureExtractor()
    features = extractor.fit_transform(photos.data)
    chosen = generator.choice(len(features), 60, replace=False)
    pictures = [Image.open(path).convert("RGB") for path in photos.data[chosen]]
    centre = features.mean(axis=0)

    def unit(rows):
        return (rows - centre) / np.linalg.norm(rows - centre, axis=1, keepdims=True)

    for name, change in CHANGES.items():
        changed = extractor.transform([change(picture) for picture in pictures])
        alike = np.sum(unit(changed) * unit(features[chosen]), axis=1)
        yield name, np.quantile(alike, 0.05), np.median(alike)


def found_swaps(photos, generator):
    """Return how many swapped labels have the lowest quality or are suspects.

    The three values are the share of swapped labels in the tenth of the images with the lowest
    quality, the share of suspects that were swapped, and the number of suspects.
    """
    names, labels = np.unique(photos.target, return_inverse=True)
    n, n_classes = len(labels), len(names)
    wrong = generator.choice(n, n // 20, replace=False)
    labels[wrong] = (labels[wrong] + generator.integers(1, n_classes, len(wrong))) % n_classes
    found = audit(photos.data, names[labels])
    suspects = list(found.label_errors["index"])
    first = np.argsort(found.quality)[: n // 10]
    return np.isin(wrong, first).mean(), np.isin(suspects, wrong).mean(), len(suspects)


def main(data):
    for name, split in SETS.items():
        photos = load_image_folder(data / name, split=split)
        print(f"{name}, {len(photos.data)} photographs, {len(photos.target_names)} classes")
        for change, low, half in cosines(photos, np.random.default_rng(0)):
            print(f"  {change}: {low:.2f}, {half:.2f}")
        for seed in range(2):
            share, precision, count = found_swaps(photos, np.random.default_rng(seed))
            print(f"  swapped: {share:.2f} in the first tenth; of {count} suspects {precision:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
