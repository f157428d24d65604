"""Texts that name arguments."""

import copy
import pickle

import pytest

from iovox_async import ConfigurationError, RecordError
from iovox_async._wording import Wording


@pytest.mark.parametrize(
    ("template", "python", "typed"),
    [
        ("Raise {timeout}.", "Raise timeout=.", "Raise --timeout."),
        ("Pass {start_date}.", "Pass start_date.", "Pass --start-date."),
        ("Pass {on_error=skip}.", 'Pass on_error="skip".', "Pass --on-error skip."),
        ("Repair it ({repair=True}).", "Repair it (repair=True).", "Repair it (--repair)."),
        ("Check {base_url}.", "Check base_url= or IOVOX_URL.", "Check --base-url."),
        ("Nothing {{named}}.", "Nothing {named}.", "Nothing {named}."),
    ],
    ids=["name", "position", "value", "flag", "variable", "braces"],
)
def test_arguments_are_spelled_for_the_reader(template, python, typed):
    """Given a text that names an argument, then as a str it is Python's, and each front end spells it its own way."""

    def spell(name, value):
        option = "--" + name.replace("_", "-")
        return option if value in {"", "True"} else f"{option} {value}"

    wording = Wording(template)
    assert wording == python
    assert wording.spelled(spell) == typed
    assert [copied.template for copied in (pickle.loads(pickle.dumps(wording)), copy.copy(wording))] == [
        template,
        template,
    ]


def test_hints_of_errors_keep_their_template_when_pickled():
    """Given an error with a hint that names an argument, when pickled, then the copy's hint can be spelled as well."""
    for error in (
        RecordError(1, "$[1]", "x"),
        ConfigurationError("timeout", "is 0", Wording("Set {timeout}.")),
    ):
        assert pickle.loads(pickle.dumps(error)).hint.template == error.hint.template
