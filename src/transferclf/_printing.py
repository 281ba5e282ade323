"""Text for the standard output: a terminal, a log, a logger, or nothing.

An error in showing progress must not end the work. The encoding may lack a character of a file
name, and an object that replaces `sys.stdout` may have no method but `write`.
"""

from __future__ import annotations

import sys


def printable(text: str) -> str:
    r"""Return the text, with escapes for characters that `sys.stdout` cannot encode.

    Surrogates stand for undecodable bytes in file names. They are always escaped.
    """
    return _within(text, _encoding(sys.stdout))


def say(text: str, end: str = "\n") -> None:
    """Print a text, with escapes if necessary. Where that is impossible, print nothing."""
    stream = sys.stdout
    # A stream that does not name its encoding may still lack characters.
    for encoding in (_encoding(stream), "ascii"):
        try:
            stream.write(_within(text, encoding) + end)
            stream.flush()
        except UnicodeError:
            continue
        except Exception:
            pass  # there is no stream, it is closed or has no `flush`, or the disk is full
        return


class Output:
    """The standard output as a file for other libraries. Writing never raises."""

    @property
    def encoding(self) -> str:
        """The encoding of the standard output."""
        return _encoding(sys.stdout)

    def write(self, text: str) -> None:
        """Print a text without a line break."""
        say(text, end="")

    def flush(self) -> None:
        """Do nothing: `write` flushes."""

    def fileno(self) -> int:
        """The file descriptor, which gives the width of a terminal."""
        return sys.stdout.fileno()


def is_terminal() -> bool:
    """Whether the standard output is a terminal, where a line can be redrawn."""
    try:
        return bool(sys.stdout.isatty())
    except Exception:
        return False


def _encoding(stream: object) -> str:
    encoding = getattr(stream, "encoding", None)
    return encoding if isinstance(encoding, str) else "utf-8"


def _within(text: str, encoding: str) -> str:
    """Return the text with escapes for characters that the encoding lacks."""
    if _has(encoding, text):
        return text
    # The package's own texts end shortened names in three dots.
    text = text.replace("…", "…" if _has(encoding, "…") else "...")
    return "".join(
        letter if _has(encoding, letter) else letter.encode("ascii", "backslashreplace").decode()
        for letter in text
    )


def _has(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeError:
        return False
    except LookupError:  # an unknown encoding is taken to have ASCII only
        return text.isascii()
    return True
