"""Train the bundled backbone ``tiny``; see the README beside this file.

The network learns two things at the same time: the labels of the images, and the pooled features of
two teachers (see ``teacher.py``). Started again, the program resumes from its checkpoint.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import augment
import data
import numpy as np
import torch
from student import Student, keras_weights
from torch.nn import functional

# Shares of the training, and the image sizes drawn for each batch from there on. Small sizes at the
# start save time. Large sizes at the end fit the usual input of 96 pixels.
SIZES = ((0.0, (64,)), (0.35, (64, 80)), (0.7, (64, 80, 96)))
BATCH = 128
PEAK_RATE, WARM_UP, MOMENTUM, WEIGHT_DECAY = 0.1, 0.03, 0.9, 1e-4
LABEL_SMOOTHING, TEACHER_WEIGHT = 0.1, 4.0
VIEW_SHARES = (0.35, 0.35, 0.3)
NO_LABEL = -100  # label of images without cross-entropy


class Training:
    """The state of the training, and its loops."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        torch.manual_seed(args.seed)
        self._load_data(args.data / "tiny_imagenet_64", args.cache)
        n_classes, n_teacher = int(self.labels.max()) + 1, len(self.target_mean)
        self.student = Student(n_classes, n_teacher).to(memory_format=torch.channels_last)
        self.forward = torch.compile(self.student, dynamic=False)
        self.optimizer = torch.optim.SGD(
            self._parameter_groups(), lr=0.0, momentum=MOMENTUM, nesterov=True, foreach=True
        )
        self.epoch, self.began = 0, time.monotonic()
        self._resume()

    @property
    def seconds(self) -> float:
        """Training time so far, with the time before a resumption."""
        return time.monotonic() - self.began

    def _load_data(self, folder: Path, cache: Path) -> None:
        images, labels = data.load_images(folder, data.TRAIN_SHARDS)
        self.images, self.labels = torch.from_numpy(images), torch.from_numpy(labels)
        images, labels = data.load_images(folder, data.VALIDATION_SHARDS)
        self.held_out, self.held_out_labels = torch.from_numpy(images), torch.from_numpy(labels)
        views = data.views(len(self.images), self.args.seed)
        self.boxes = torch.from_numpy(np.stack([view.boxes for view in views]))
        self.colours = torch.from_numpy(np.stack([view.colours for view in views]))
        self.keeps_label = torch.tensor([view.keeps_label for view in views])
        self.targets = [
            np.stack([np.load(data.features_path(cache, alpha, n)) for n in range(len(views))])
            for alpha in data.TEACHERS
        ]
        # All views are standardised by the features of the whole images.
        means = [features[0].mean(0, dtype="float32") for features in self.targets]
        scales = [features[0].std(0, dtype="float32") + 1e-3 for features in self.targets]
        self.target_mean = torch.from_numpy(np.concatenate(means))
        self.target_scale = torch.from_numpy(np.concatenate(scales))

    def _parameter_groups(self) -> list[dict]:
        decayed = [p for p in self.student.parameters() if p.ndim > 1]
        free = [p for p in self.student.parameters() if p.ndim <= 1]
        return [
            {"params": decayed, "weight_decay": WEIGHT_DECAY},
            {"params": free, "weight_decay": 0.0},
        ]

    def _resume(self) -> None:
        if self.args.checkpoint.exists():
            state = torch.load(self.args.checkpoint, weights_only=True)
            self.student.load_state_dict(state["student"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.epoch, self.began = state["epoch"], time.monotonic() - state["seconds"]
            torch.set_rng_state(state["random"])

    def _save(self) -> None:
        state = {
            "student": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "seconds": self.seconds,
            "random": torch.get_rng_state(),
        }
        partial = self.args.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.args.checkpoint)
        np.savez(self.args.output, allow_pickle=False, **keras_weights(self.student))

    def run(self) -> None:
        """Train until the limit of epochs or of time, whichever comes first."""
        while self._progress(0) < 1:
            row = self._train_epoch()
            self.epoch += 1
            self._save()
            row["validation_64"] = self.accuracy(64)
            self._report({"epoch": self.epoch, "minutes": self.seconds / 60} | row)
        print("validation accuracy at 96 pixels", self.accuracy(96))

    def _progress(self, step: int) -> float:
        """Return the completed share of the training, by epochs or by time.

        The learning rate falls to zero with it.
        """
        epochs = self.epoch + step * BATCH / len(self.images)
        return max(epochs / self.args.epochs, self.seconds / (60 * self.args.minutes))

    def _train_epoch(self) -> dict[str, float]:
        self.student.train()
        sums, order = torch.zeros(3), torch.randperm(len(self.images))
        n_steps, began = 0, self.seconds
        for step, batch in enumerate(self._batches(order)):
            progress = self._progress(step)
            if progress >= 1:
                break
            sums += self._step(*batch, learning_rate(progress))
            n_steps += 1
            if step % 100 == 0:
                print(f"  step {step}: {self.seconds:.0f} s", flush=True)
        means = (sums / max(n_steps, 1)).tolist()
        rate = n_steps * BATCH / max(self.seconds - began, 1e-9)
        return dict(zip(("loss", "teacher_loss", "accuracy"), means, strict=True)) | {
            "images_per_second": rate
        }

    def _batches(self, order: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yield the batches of one epoch, while a thread prepares the next batch."""
        parts = order[: len(order) // BATCH * BATCH].split(BATCH)
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            pending = pool.submit(self._prepare, parts[0], 0)
            for step in range(len(parts)):
                ready = pending.result()
                if step + 1 < len(parts):
                    pending = pool.submit(self._prepare, parts[step + 1], step + 1)
                yield ready

    def _prepare(self, chosen: torch.Tensor, step: int) -> tuple[torch.Tensor, ...]:
        """Return random views of the chosen images, their labels and the teachers' features."""
        size = draw_size(self._progress(step))
        view = torch.multinomial(torch.tensor(VIEW_SHARES), len(chosen), replacement=True)
        given = self.boxes[view, chosen], self.colours[view, chosen]
        x = augment.random_views(self.images[chosen], *given, size)
        features = [each[view.numpy(), chosen.numpy()] for each in self.targets]
        target = torch.from_numpy(np.concatenate(features, axis=1)).float()
        target = (target - self.target_mean) / self.target_scale
        labels = torch.where(self.keeps_label[view], self.labels[chosen], NO_LABEL)
        return x, labels, target

    def _step(
        self, x: torch.Tensor, labels: torch.Tensor, target: torch.Tensor, rate: float
    ) -> torch.Tensor:
        """Update once; return the losses of labels and of teachers' features, and the accuracy."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            logits, imitation = self.forward(x)
        teacher_loss = functional.mse_loss(imitation.float(), target)
        label_loss = functional.cross_entropy(
            logits.float(), labels, ignore_index=NO_LABEL, label_smoothing=LABEL_SMOOTHING
        )
        self.optimizer.zero_grad()
        (label_loss + TEACHER_WEIGHT * teacher_loss).backward()
        self.optimizer.step()
        hits = (logits.argmax(1) == labels)[labels != NO_LABEL].float().mean()
        return torch.stack([label_loss.detach(), teacher_loss.detach(), hits])

    @torch.no_grad()
    def accuracy(self, size: int) -> float:
        """Return the accuracy on the held-out images at one size."""
        self.student.eval()
        hits = 0
        for pixels, labels in zip(
            self.held_out.split(256), self.held_out_labels.split(256), strict=True
        ):
            with torch.autocast("cpu", torch.bfloat16):
                logits, _ = self.student(augment.plain_views(pixels, size))
            hits += int((logits.argmax(1) == labels).sum())
        return hits / len(self.held_out)

    def _report(self, row: dict[str, float]) -> None:
        row = {key: round(value, 4) for key, value in row.items()}
        new = not self.args.log.exists()
        with self.args.log.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(row, flush=True)


def learning_rate(progress: float) -> float:
    """Return the learning rate: a short linear warm-up, then half a cosine to zero."""
    if progress < WARM_UP:
        return PEAK_RATE * (progress + 1e-3) / WARM_UP
    return PEAK_RATE * 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def draw_size(progress: float) -> int:
    """Draw one of the image sizes that this stage of the training uses."""
    sizes = [choice for start, choice in SIZES if progress >= start][-1]
    return sizes[int(torch.randint(len(sizes), ()))]


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("TRANSFERCLF_DATA", "."))
    parser.add_argument("--cache", type=Path, required=True, help="folder that teacher.py wrote")
    parser.add_argument("--output", type=Path, default=Path("tiny_weights.npz"))
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint.pt"))
    parser.add_argument("--log", type=Path, default=Path("log.csv"))
    parser.add_argument("--epochs", type=int, default=38)
    parser.add_argument("--minutes", type=float, default=600, help="limit of the training time")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    Training(args).run()
    print("SHA-256", hashlib.sha256(args.output.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
