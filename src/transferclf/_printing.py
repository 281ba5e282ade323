"""Text for the standard output, whatever that is: a terminal, a log, a logger, or nothing.

Showing something must never end the work that it is about. An encoding may lack a character of a
file name, and a stream that somebody put in the place of `sys.stdout` may lack everything but
`write`.
"""

from __future__ import annotations

import sys


def printable(text: str) -> str:
    r"""Return the text with characters escaped that `sys.stdout` cannot encode.

    Surrogates, which stand for undecodable bytes in names of files, are always escaped, since no
    encoding has them.

    Examples
    --------
    >>> print(printable("caf\udce9.jpg"))
    caf\udce9.jpg
    """
    return _within(text, _encoding(sys.stdout))


def say(text: str, end: str = "\n") -> None:
    """Print a text; where that is impossible, print an escaped text or nothing. Never raise."""
    stream = sys.stdout
    # A stream that does not name its encoding may still lack characters.
    for encoding in (_encoding(stream), "ascii"):
        try:
            stream.write(_within(text, encoding) + end)
            stream.flush()
        except UnicodeError:
            continue
        except Exception:
            # No such stream, closed, a full disk, no `flush`: the work is more important.
            return
        return


class Output:
    """The standard output as a file for other libraries, whose writing never raises."""

    @property
    def encoding(self) -> str:
        """The encoding of the standard output."""
        return _encoding(sys.stdout)

    def write(self, text: str) -> None:
        """Say a text as it is, without a line break."""
        say(text, end="")

    def flush(self) -> None:
        """Do nothing: each text is flushed when it is written."""

    def fileno(self) -> int:
        """The number of the file, by which the width of a terminal is found out."""
        return sys.stdout.fileno()


def is_terminal() -> bool:
    """Whether the standard output is a terminal, which can go back to the start of a line."""
    try:
        return bool(sys.stdout.isatty())
    except Exception:
        return False


def _encoding(stream: object) -> str:
    encoding = getattr(stream, "encoding", None)
    return encoding if isinstance(encoding, str) else "utf-8"


def _within(text: str, encoding: str) -> str:
    """The text with only characters that the encoding has."""
    if _has(encoding, text):
        return text
    return "".join(letter if _has(encoding, letter) else _escaped(letter) for letter in text)


def _has(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeError:
        return False
    except LookupError:  # no such encoding: only what all have
        return text.isascii()
    return True


def _escaped(letter: str) -> str:
    # Three dots stand for names that are cut, in the package's own texts.
    return "..." if letter == "…" else letter.encode("ascii", "backslashreplace").decode()
