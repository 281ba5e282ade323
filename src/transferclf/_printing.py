"""Text for the standard output, whatever that is: a terminal, a log, a logger, or nothing.

Showing something must never end the work that it is about. An encoding may lack a character of a
file name, and a stream that somebody put in the place of `sys.stdout` may lack everything but
`write`.
"""

from __future__ import annotations

import sys
from typing import Any

# What stands for characters of this package's own texts where an encoding lacks them. Any other
# character that it lacks is escaped.
_STAND_INS = {"━": "=", "…": "..."}


def printable(text: str) -> str:
    r"""Return the text with what `sys.stdout` cannot encode replaced or escaped.

    Surrogates, which stand for undecodable bytes in names of files, are always escaped, since no
    encoding has them.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        The same text where the standard output has all of its characters.

    Examples
    --------
    >>> print(printable("caf\udce9.jpg"))
    caf\udce9.jpg
    """
    return _within(text, _encoding(sys.stdout))


def say(text: str, end: str = "\n") -> None:
    """Print a text; where that is impossible, print an escaped text or nothing. Never raise.

    Parameters
    ----------
    text : str
        Any text.
    end : str
        What follows it; a line break by default.

    Examples
    --------
    >>> say("extracting features")
    extracting features
    """
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


def is_terminal() -> bool:
    """Whether the standard output is a terminal, which can go back to the start of a line."""
    try:
        return bool(sys.stdout.isatty())
    except Exception:
        return False


def _encoding(stream: Any) -> str:
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
    return _STAND_INS.get(letter) or letter.encode("ascii", "backslashreplace").decode()
