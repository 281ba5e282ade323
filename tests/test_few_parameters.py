"""The option --few-parameters: the selection of parameter sets of a test."""

from types import SimpleNamespace

import pytest
from conftest import keep_few_parameters, pytest_collection_modifyitems, spread


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [
        (10, 3, {0, 4, 9}),
        (5, 3, {0, 2, 4}),
        (7, 2, {0, 6}),
        (4, 1, {0}),
        (2, 3, {0, 1}),
        (0, 2, set()),
    ],
)
def test_kept_parameter_sets_are_spread_from_the_first_to_the_last(count, most, expected):
    assert spread(count, most) == expected


class Item:
    """Stand-in for an item of pytest with the attributes that the option reads."""

    def __init__(self, nodeid, *keywords):
        self.nodeid = nodeid
        self.keywords = keywords
        if "[" in nodeid:
            self.callspec = None


def test_each_function_keeps_some_sets_and_marked_functions_keep_all():
    items = [
        *(Item(f"a.py::test_one[{number}]") for number in range(5)),
        *(Item(f"a.py::Test::test_one[{number}]") for number in range(2)),
        *(Item(f"b.py::test_whole[{number}]", "every_parameter") for number in range(4)),
        Item("b.py::test_alone"),
    ]
    dropped = []
    hook = SimpleNamespace(pytest_deselected=lambda items: dropped.extend(items))
    keep_few_parameters(SimpleNamespace(hook=hook), items, 2)
    assert [it.nodeid for it in dropped] == [f"a.py::test_one[{number}]" for number in (1, 2, 3)]
    assert len(items) == 12 - 3
    assert not {it.nodeid for it in dropped} & {it.nodeid for it in items}


def test_numbers_below_one_are_refused():
    config = SimpleNamespace(getoption=lambda name: 0)
    with pytest.raises(pytest.UsageError, match="at least 1"):
        pytest_collection_modifyitems(config, [])
