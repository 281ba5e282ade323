"""The command `transferclf`. It imports a command when that is called, so that help is quick."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

import click

from transferclf import __version__
from transferclf.cli.endings import as_exit_code

# Each name is that of a module in this room, which holds the `command`.
COMMANDS = {
    "fit": "Learn the classes of a folder, and save the model.",
    "predict": "Name the classes of images.",
    "evaluate": "Measure a model on class folders.",
    "audit": "Look for copies, leaks and wrong labels in class folders.",
    "search": "Compare settings by cross-validation.",
    "features": "Write the features of images to a file.",
    "export": "Write a model for another runtime.",
    "info": "Show what a saved model is.",
    "backbones": "List the networks that can be used.",
}


class CommandLine(click.Group):
    """The group of all commands. It decides what an error prints and the exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of their use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name, or None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"transferclf.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands in the help text without importing them."""
        commands: Iterable[tuple[str, str]] = COMMANDS.items()
        with formatter.section("Commands"):
            formatter.write_dl([*commands])

    def invoke(self, ctx: click.Context) -> object:
        """Call the command."""
        with as_exit_code(ctx):
            return super().invoke(ctx)


@click.command(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="transferclf", message="%(prog)s %(version)s")
def main() -> None:
    """Classify images by transfer learning.

    `transferclf fit FOLDER -o MODEL` learns from FOLDER/CLASS/IMAGE, and `transferclf predict MODEL
    IMAGES...` names the classes of new images. Results are printed on the standard output, progress
    and warnings on the standard error.
    """
