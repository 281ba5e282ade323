"""How a command ends: what is printed for an error, and the exit code.

0 is success. 2 is an input that cannot be used, with one line on the standard error. 130 is Ctrl-C,
141 a reader of the output that has gone, and 1 any other error, with its traceback.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import click

from transferclf.cli.texts import escaped, one_line
from transferclf.exceptions import ImageError, TransferclfError

UNEXPECTED, REFUSED, INTERRUPTED, NO_READER = 1, 2, 130, 141

NAMED = 5  # images at fault that the line names

_PACKAGE = str(Path(__file__).parents[1])


class Refusal(click.ClickException):
    """An input that cannot be used; shown as one line."""

    exit_code = REFUSED

    def show(self, file: IO[str] | None = None) -> None:
        """Print the line."""
        click.echo(f"transferclf: error: {one_line(self.message)}", err=True)


@contextmanager
def as_exit_code(ctx: click.Context) -> Iterator[None]:
    """Turn all errors of the block into a message and an exit code."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            yield
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else ctx.command_path
        raise Refusal(f"{error.format_message()} See: {command} --help") from error
    except (click.ClickException, click.Abort, click.exceptions.Exit):
        raise
    except KeyboardInterrupt:
        click.echo("transferclf: interrupted", err=True)
        ctx.exit(INTERRUPTED)
    except BrokenPipeError:
        _close_output()
        ctx.exit(NO_READER)
    except Exception as error:
        if _is_about_input(error):
            raise Refusal(text_of(error)) from error
        lines = traceback.format_exception(error)
        click.echo("".join(map(escaped, "".join(lines).splitlines(keepends=True))), err=True)
        ctx.exit(UNEXPECTED)


def _is_about_input(error: Exception) -> bool:
    """Whether this package raised the error on purpose, or a file cannot be used."""
    if isinstance(error, TransferclfError | OSError):
        return True
    # Other libraries raise these too, for errors of this package.
    if not isinstance(error, ValueError | ImportError):
        return False
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_code.co_filename.startswith(_PACKAGE)


def text_of(error: Exception) -> str:
    """Return the message of an error without advice for Python."""
    if isinstance(error, ImageError) and error.problems:
        named = "; ".join(error.problems[:NAMED])
        more = len(error.problems) - NAMED
        others = f"; and {more} more" if more > 0 else ""
        images = "image" if len(error.problems) == 1 else "images"
        return f"{len(error.problems)} {images} cannot be used: {named}{others}"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror}: {os.fsdecode(error.filename)}"
    return str(error) or type(error).__name__


def _show_warning(message: Warning | str, *others: object) -> None:
    click.echo(f"transferclf: warning: {one_line(str(message))}", err=True)


def _close_output() -> None:
    """Let what is left of the output go nowhere, or Python would fail when it ends."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
