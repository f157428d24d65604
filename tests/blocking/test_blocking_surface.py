"""The blocking classes have the names, parameters and docstrings of the async ones."""

import inspect
import re

import pytest

from iovox_async import AsyncInsights, CallStream, backfill, blocking, follow
from iovox_async.blocking._surface import blocking_text

PAIRS = [
    (AsyncInsights, blocking.Insights),
    (CallStream, blocking.CallStream),
    (follow.CallFollower, blocking.CallFollower),
    (backfill.Backfill, blocking.Backfill),
]
#: Methods of the async classes, and their names in the blocking ones.
RENAMED = {
    "aclose": "close",
    "__aiter__": "__iter__",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
}


def members(cls):
    """The members of a class and of its base classes, `object` left out."""
    return {name: member for base in reversed(cls.__mro__[:-1]) for name, member in vars(base).items()}


MEMBERS = [
    pytest.param(one, other, name, id=f"{other.__name__}.{name}")
    for one, other in PAIRS
    for name, member in members(one).items()
    if (inspect.isfunction(member) or isinstance(member, property))
    and (
        not name.startswith("_")
        or (
            name == "__init__" and one in {AsyncInsights, backfill.Backfill}
        )  # programs do not make the others
    )
]


def public(cls):
    """The names of the methods and properties that programs use."""
    defined = {
        name for name, member in members(cls).items() if callable(member) or isinstance(member, property)
    }
    return {name for name in defined if not name.startswith("_") or name in {*RENAMED, *RENAMED.values()}}


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=[other.__name__ for _, other in PAIRS])
def test_given_an_async_class_when_compared_with_the_blocking_one_then_both_have_the_same_names(one, other):
    """A method of one of them that the other has not is found; `aclose` is `close`."""
    assert {RENAMED.get(name, name) for name in public(one)} == public(other)


@pytest.mark.parametrize(("one", "other", "name"), MEMBERS)
def test_given_a_member_when_compared_with_the_blocking_one_then_parameters_results_and_docstrings_are_the_same(
    one, other, name
):
    """The parameters are equal, with their defaults; the result is the same without its awaitable; so is the docstring."""
    member, blocking_member = getattr(one, name), getattr(other, RENAMED.get(name, name))
    if inspect.isfunction(member):
        signature, blocking_signature = inspect.signature(member), inspect.signature(blocking_member)
        expected = re.sub("Async(?=Insights|Iterator)", "", str(signature))
        assert expected.replace("'Self'", "'Insights'") == str(blocking_signature)
    if (one, name) != (AsyncInsights, "aclose"):  # its errors differ
        assert blocking_member.__doc__ == blocking_text(member.__doc__)


@pytest.mark.parametrize("cls", [other for _, other in PAIRS])
def test_given_a_blocking_class_when_help_is_read_then_it_speaks_of_no_async_code(cls):
    """Help of the blocking classes shows programs that run as they stand, and lists the arguments."""
    texts = [cls.__doc__, *(getattr(cls, name).__doc__ for name in public(cls))]
    for text in texts:
        assert not re.search(r"async (with|for)|await|aclose|\btask\b", text or ""), text
    arguments = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
    if cls in {blocking.Insights, blocking.Backfill}:
        assert all(f"{name}:" in cls.__doc__ for name in arguments)


def test_given_the_public_names_when_read_then_each_has_a_docstring():
    """`help` has something to say about each."""
    for name in blocking.__all__:
        cls = getattr(blocking, name)
        assert cls.__doc__
        assert [
            member
            for member in public(cls) - {"__enter__", "__exit__", "__iter__"}
            if not getattr(cls, member).__doc__
        ] == []
