"""Tests of the dependencies' bounds: the oldest versions, which `.ci/oldest` installs, and the reasons of upper bounds."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENT = re.compile(r"([\w-]+)(?:\[[\w,]+\])?((?:[<>=]=?[\d.]+,?)*)(?:;.*)?")


def bounds(requirements):
    """The lower bound of each package, or None, and whether it has an upper one."""
    for requirement in requirements:
        name, limits = REQUIREMENT.fullmatch(requirement.replace(" ", "")).groups()
        lower = re.search(r">=([\d.]+)", limits)
        if name != "iovox-async":
            yield name, lower and lower[1], "<" in limits


def test_the_oldest_versions_are_those_of_the_project():
    """Given the lower bounds of what users install, when compared with the constraints, then each has its own, and no other."""
    lines = (ROOT / ".ci" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    oldest = dict(line.split("==") for line in lines if "==" in line)
    assert list(oldest) == sorted(oldest)
    required = [
        *PROJECT["dependencies"],
        *(item for name, items in EXTRAS.items() if name != "dev" for item in items),
    ]
    lower = {name: version for name, version, _ in bounds(required) if version}
    lower_of_tests = {name: version for name, version, _ in bounds(EXTRAS["dev"]) if version}
    assert oldest.keys() >= lower.keys()
    assert {name: {**lower_of_tests, **lower}.get(name) for name in oldest} == oldest


def test_a_package_has_the_same_bounds_wherever_it_is_required():
    """Given several extras that require a package, when its bounds are compared, then they are equal."""
    lower_bounds = {}
    for items in (PROJECT["dependencies"], *EXTRAS.values()):
        for name, lower, upper in bounds(items):
            assert lower_bounds.setdefault(name, (lower, upper)) == (lower, upper)


def test_each_upper_bound_has_its_reason():
    """Given an upper bound, when pyproject.toml is read, then the comment before it says why."""
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    bounded = [number for number, line in enumerate(lines) if re.search(r'"[\w-]+>=[\d.]+,<', line)]
    assert bounded
    for number in bounded:
        assert lines[number - 1].strip().startswith("#"), lines[number]
        assert "elow" in lines[number - 1]


def test_the_actions_of_the_workflow_are_pinned_and_the_pythons_are_those_of_the_project():
    """Given the workflow, when it is read, then each action is named by its hash, and each Python of the classifiers is tested."""
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    actions = re.findall(r"uses: (\S+)", text)
    assert actions
    assert [action for action in actions if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action)] == []
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert f"python: {versions}".replace("'", '"') in text
    for name in ("windows-latest", "macos-latest", '"3.14t"', ".ci/oldest", ".ci/run", "schedule"):
        assert name in text
