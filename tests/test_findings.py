"""Each fault that was found by trying version 0.1 has tests."""

from support.fault_table import marked_tests
from support.finding_table import FINDINGS


def test_given_the_findings_when_tests_are_searched_for_their_marks_then_each_has_one():
    """And no test names a finding that is not in the table."""
    assert marked_tests("finding").keys() == FINDINGS.keys()
