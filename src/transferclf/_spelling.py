"""Comparing names: equal, alike in print, or close to each other."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Hashable, Iterable, Sequence

# Code points that no font draws (Default_Ignorable_Code_Point of Unicode), and control characters
# that are no white space.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

# The number of names that a message shows, and for which near matches are searched.
SHOWN = 5


def in_nfc(name: str) -> str:
    """Return the name in Unicode NFC, where an accented letter is one character.

    File systems and programs write the same name in different Unicode forms.
    """
    return unicodedata.normalize("NFC", name)


def look(name: object) -> str:
    """Return a name without case, white space and invisible characters, in Unicode NFKC.

    Numbers and booleans look like the text that Python prints for them.
    """
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", str(name)))
    folded = unicodedata.normalize("NFKC", text.casefold())
    visible = "".join(_INVISIBLE.sub("", folded).split())
    return unicodedata.normalize("NFKC", visible)


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Return groups of different names that have the same look, sorted."""
    groups: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        groups.setdefault(look(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def known_by_look(
    unknown: Iterable[Hashable], known: Iterable[Hashable]
) -> dict[Hashable, Hashable]:
    """Return the known label for each unknown one that has its look."""
    by_look = {look(label): label for label in known}
    looks = ((label, look(label)) for label in unknown)
    return {label: by_look[key] for label, key in looks if key in by_look}


def did_you_mean(
    unknown: Sequence[Hashable], known: Iterable[Hashable], *, only_look_alikes: bool = False
) -> str:
    """Return a sentence that proposes near matches for the first few unknown names, or "".

    `only_look_alikes` leaves out names that only have most letters in common.
    """
    known = list(known)
    found = known_by_look(unknown, known)
    if not only_look_alikes:
        by_look = {look(name): name for name in known if isinstance(name, str)}
        for name in [name for name in unknown if name not in found][:SHOWN]:
            near = difflib.get_close_matches(look(name), by_look, n=1)
            if near:
                found[name] = by_look[near[0]]
    if not found:
        return ""
    pairs = [told_apart([meant, name]) for name, meant in list(found.items())[:SHOWN]]
    return f" Did you mean {', '.join(f'{meant} for {name}' for meant, name in pairs)}?"


def told_apart(names: Sequence[object]) -> list[str]:
    """Quote names. Those that print the same are shown with escapes, so that they differ."""
    forms = {unicodedata.normalize("NFKC", str(name)) for name in names}
    quote = repr if len(forms) == len(names) else ascii
    return [quote(name) for name in names]


def quoted(names: Iterable[object], most: int = SHOWN) -> str:
    """Return the first `most` names in quotes, and how many more there are."""
    shown = [repr(name) for name in names]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def shortened(texts: Sequence[object], most: int = SHOWN) -> str:
    """Return the first `most` texts, separated by semicolons, and how many more there are."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return "; ".join(map(str, texts[:most])) + more
