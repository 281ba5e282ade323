"""Options that commands share. Those of estimators are made from their signatures."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import click

import transferclf
from transferclf.cli.endings import Refusal
from transferclf.cli.values import Given, ParameterType

if TYPE_CHECKING:
    from sklearn.utils import Bunch

Decorated = TypeVar("Decorated", bound=Callable[..., object])

# Parameters that have no sense on the command line: objects, arrays, and fits that go on.
NO_OPTIONS = {"callbacks", "head", "image_shape", "output", "warm_start"}


class EstimatorCommand(click.Command):
    """A command with an option for each parameter of an estimator, by the parameter's name.

    The estimator is imported when the options are needed.
    """

    def __init__(
        self, *args: Any, estimator: str, without: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._estimator, self._without = estimator, {*without}

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return all options: first those of the command, then those of the estimator."""
        *own, help_option = super().get_params(ctx)
        theirs = options_of(self._estimator)
        return [*own, *(theirs[name] for name in theirs if name not in self._without), help_option]


@cache
def options_of(estimator: str) -> Mapping[str, click.Option]:
    """Return an option for each parameter of a public estimator that can be written as text."""
    kind = getattr(transferclf, estimator)
    texts = _descriptions(kind.__doc__ or "")
    fields = [field for field in dataclasses.fields(kind) if field.init]
    return {
        field.name: _option(field, texts.get(field.name, ""))
        for field in fields
        if field.name not in NO_OPTIONS
    }


def _option(field: dataclasses.Field, text: str) -> click.Option:
    name = field.name.replace("_", "-")
    shared: dict[str, Any] = {"default": None, "help": f"{text} [{_default(field)}]".strip()}
    if field.type == "bool":
        return click.Option([f"--{name}/--no-{name}"], **shared)
    return click.Option([f"--{name}"], type=ParameterType(str(field.type)), **shared)


def _default(field: dataclasses.Field) -> str:
    if field.name == "verbose":
        return "1"
    default = "none" if field.default is None else str(field.default)
    return "no" if field.default is False else default


def _descriptions(doc: str) -> dict[str, str]:
    """Return the first sentence about each parameter of a numpydoc text."""
    parameters = doc.partition("Parameters\n")[2].partition("Attributes\n")[0]
    entries = re.findall(r"^    (\w+) : .*\n((?:        .*\n|\n)+)", parameters, re.MULTILINE)
    return {name: _first_sentence(" ".join(text.split())) for name, text in entries}


def _first_sentence(text: str) -> str:
    plain = re.sub(r":\w+:`~?(?:transferclf\.)?([^`]+)`", r"\1", text)
    return re.split(r"(?<=\.) (?=[A-Z\"0-9])", plain)[0]


def made(estimator: str, options: Mapping[str, Given | bool | None]) -> Any:
    """Return an estimator with the options that were given, which by default shows progress."""
    given = {
        name: value.value if isinstance(value, Given) else value
        for name, value in options.items()
        if value is not None
    }
    return getattr(transferclf, estimator)(**({"verbose": 1} | given))


def json_option(function: Decorated) -> Decorated:
    """Add the option --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(
        function
    )


def quiet_option(function: Decorated) -> Decorated:
    """Add the option --verbose, which shows progress by default."""
    return click.option(
        "--verbose", type=click.IntRange(0), default=1, help="0 shows no progress."
    )(function)


def with_progress(estimator: Any, verbose: int) -> Any:
    """Return a loaded estimator that shows progress as asked."""
    if "verbose" in estimator.get_params(deep=False):
        estimator.set_params(verbose=verbose)
    return estimator


def folder_options(function: Decorated) -> Decorated:
    """Add the options of :func:`transferclf.load_image_folder`."""
    for option in (
        click.option("--recursive", is_flag=True, help="Read folders below the class folders too."),
        click.option(
            "--classes", metavar="NAME,NAME", help="Read these classes only, separated by commas."
        ),
        click.option(
            "--split", multiple=True, help="Read FOLDER/SPLIT/CLASS/IMAGE; may be repeated."
        ),
    ):
        function = option(function)
    return function


def read_folder(folder: str, split: Sequence[str], classes: str | None, recursive: bool) -> Bunch:
    """Return the images of class folders, with the names of their classes."""
    return transferclf.load_image_folder(
        folder,
        split=[*split] or None,
        classes=None if classes is None else [name.strip() for name in classes.split(",")],
        recursive=recursive,
    )


def check_two_classes(target: Sequence[str], folder: str) -> None:
    """Refuse a folder with a single class, before any work."""
    if len({*target}) < 2:
        raise Refusal(
            f"{folder} has images of one class only, {str(target[0])!r}. Expected at least two "
            "class folders with images."
        )
