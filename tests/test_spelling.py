"""Tests of the comparison of names by their look."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transferclf._spelling import (
    did_you_mean,
    in_nfc,
    known_by_look,
    look,
    look_alikes,
    quoted,
    shortened,
    told_apart,
)

WHITE = " \t\n\u00a0\u2003\u3000\u202f"
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad\ufe0f\u200e\u202e\u3164"
FULL_WIDTH = {ord(letter): ord(letter) + 0xFEE0 for letter in "abcxyzABCXYZ0123"}

names = st.text("abcxyzäéñøß熊ABCXYZÅ0123-_.'", min_size=1, max_size=12)


def put(text, position, addition):
    """Insert a text at a position where NFC does not combine two characters."""
    letters = unicodedata.normalize("NFC", text)
    position %= len(letters) + 1
    return letters[:position] + addition + letters[position:]


CHANGES = st.one_of(
    st.sampled_from([str.upper, str.lower, str.swapcase, str.title, str.casefold]),
    st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]).map(
        lambda form: lambda text: unicodedata.normalize(form, text)
    ),
    st.tuples(st.sampled_from(WHITE + INVISIBLE), st.integers(0, 99)).map(
        lambda where: lambda text: put(text, where[1], where[0])
    ),
    st.just(lambda text: text.translate(FULL_WIDTH)),
)


@given(names, st.lists(CHANGES, max_size=6))
def test_case_space_form_and_invisible_characters_do_not_change_the_look(name, changes):
    changed = name
    for change in changes:
        changed = change(changed)
    assert look(changed) == look(name)
    assert look_alikes([name, changed]) == ([] if name == changed else [sorted([name, changed])])


@given(st.lists(st.text("abAB 12_", max_size=5), max_size=12))
def test_names_look_alike_only_if_their_letters_are_the_same(some):
    groups = look_alikes(some)
    for group in groups:
        assert group == sorted(set(group))
        assert len({name.lower().replace(" ", "") for name in group}) == 1
    grouped = [name for group in groups for name in group]
    assert len(grouped) == len(set(grouped)) <= len(set(some))
    alone = {name.lower().replace(" ", "") for name in set(some) - set(grouped)}
    assert len(alone) == len(set(some) - set(grouped))


@given(st.text(max_size=10))
def test_the_look_of_any_text_is_that_of_its_forms(text):
    assert look(in_nfc(text)) == look(unicodedata.normalize("NFD", text))
    assert in_nfc(in_nfc(text)) == in_nfc(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("red oak", "redoak"),
        ("straße", "STRASSE"),
        ("µm", "μm"),
        ("ﬁg", "fig"),
        ("\uff21\uff11", "a1"),
        ("n°5", "N°5"),
        ("①", "1"),
        ("e\u200d\u0301", "é"),
        ("bell\x07", "bell"),
        ("\u2067bee\u2069", "bee"),
    ],
)
def test_look_alikes(one, other):
    assert look(one) == look(other)
    assert look_alikes([one, other, "something else"]) == [sorted([one, other])]


@pytest.mark.parametrize(
    ("one", "other"),
    [("a", "ä"), ("a_b", "a b"), ("a-b", "ab"), ("c1", "c10"), ("o", "0"), ("x", "x.")],
)
def test_other_names(one, other):
    assert look(one) != look(other)


def test_labels_of_other_types_look_like_their_text():
    assert known_by_look([3, True, 2.0, 7], ["3", "true", "2"]) == {3: "3", True: "true"}


def test_near_matches_are_proposed_in_a_sentence():
    assert did_you_mean(["Dog"], ["cat", "dog"]) == " Did you mean 'dog' for 'Dog'?"
    assert did_you_mean(["dgo", "zzz"], ["cat", "dog"]) == " Did you mean 'dog' for 'dgo'?"
    assert did_you_mean(["dgo"], ["cat", "dog"], only_look_alikes=True) == ""
    assert did_you_mean([], ["cat"]) == did_you_mean(["cat"], []) == ""
    many = [f"NAME{i}" for i in range(3000)]
    assert did_you_mean(many, map(str.lower, many)).count(" for ") == 5


def test_names_that_print_the_same_are_shown_differently():
    assert told_apart(["é", "e\u0301"]) == ["'\\xe9'", "'e\\u0301'"]
    assert told_apart(["Ä", "ä"]) == ["'Ä'", "'ä'"]
    assert told_apart(["a", "a\u200b"]) == ["'a'", "'a\\u200b'"]
    assert told_apart(["3", 3]) == ["'3'", "3"]


def test_many_names_are_shortened():
    assert quoted("abc") == "'a', 'b', 'c'"
    assert quoted("abcdefg") == "'a', 'b', 'c', 'd', 'e' and 2 more"
    assert quoted("abc", 1) == "'a' and 2 more"
    assert shortened([1, 2]) == "1; 2"
    assert shortened(range(7)) == "0; 1; 2; 3; 4 and 2 more"
