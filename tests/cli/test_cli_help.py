"""Help, options and version: what the command line offers."""

import re

import attrs
import click
import pytest

from iovox_async import Filters
from iovox_async.backfill._formats import FORMATS as BACKFILL_FORMATS
from iovox_async.cli import USAGE
from iovox_async.cli.app import iovox, load_command
from iovox_async.cli.commands.backfill import FORMATS
from iovox_async.cli.errors import option_name
from iovox_async.fields import PRESETS
from iovox_async.sandbox import Faults

COMMANDS = {name: load_command(name) for name in iovox.commands}


def test_root_help_names_commands_credentials_and_exit_codes(run):
    """Given no knowledge of the command, when `iovox --help` runs, then it names all that is needed to start."""
    output = run("--help").stdout
    for word in (
        *COMMANDS,
        "IOVOX_USERNAME",
        "IOVOX_SECURE_KEY",
        "IOVOX_URL",
        "130 interrupted",
        "iovox demo",
    ):
        assert word in output


def test_no_arguments_show_the_help(run):
    """Given no arguments, when `iovox` runs, then it prints its help, and no error."""
    result = run()
    assert result.output.startswith("Usage: iovox")
    assert result.exit_code == USAGE


@pytest.mark.parametrize("name", COMMANDS)
def test_command_help_begins_like_the_list_and_describes_every_parameter(run, name):
    """Given a command, when its help is printed, then it begins with its sentence in the list and names each option."""
    command = COMMANDS[name]
    output = run(name, "--help").stdout
    assert command.name == name
    assert command.help.startswith(iovox.commands[name].help)
    assert iovox.commands[name].help in " ".join(output.split())
    assert "=None" not in output  # a range without bounds
    assert command.params or name == "fields"
    for parameter in command.params:
        assert parameter.help, parameter.name
        assert max(parameter.opts, key=len).lower() in output.lower()


@pytest.mark.parametrize("name", ["calls", "backfill", "follow"])
def test_every_filter_has_an_option(name):
    """Given a command that reads calls, when its options are listed, then there is one for each filter."""
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert {option_name(name) for name in Filters.__annotations__} <= options


@pytest.mark.parametrize("name", ["fields", "on_error"])
def test_shared_options_are_the_same_in_every_command(name):
    """Given the commands that read calls, when an option of one name is compared, then type, default and help agree."""
    options = [
        next(option for option in COMMANDS[command].params if option.name == name)
        for command in ("calls", "backfill", "follow")
    ]
    assert len({(str(option.to_info_dict()["type"]), option.default) for option in options}) == 1
    shortest = min((option.help.rstrip(".") for option in options), key=len)
    assert all(option.help.startswith(shortest) for option in options)


def test_every_fault_has_an_option():
    """Given the attributes of Faults, when the sandbox's options are listed, then there is one with a help for each."""
    help_texts = {option.name: getattr(option, "help", None) for option in COMMANDS["sandbox"].params}
    assert all(help_texts[field.name] for field in attrs.fields(Faults))


def test_backfill_formats_are_those_of_the_package():
    """Given the formats of Backfill, when compared with those of --format, then they are the same."""
    assert tuple(BACKFILL_FORMATS) == FORMATS


def test_no_option_takes_the_key():
    """Given all options, when searched for secrets, then none takes one, as shell history and process lists show them."""
    names = {
        option for command in COMMANDS.values() for parameter in command.params for option in parameter.opts
    }
    assert not [name for name in names if re.search("key(?!word)|secret|password|token", name)]


def test_version_is_one_line(run):
    """Given an installed package, when `iovox --version` runs, then it prints the version and nothing else."""
    result = run("--version")
    assert re.fullmatch(r"iovox \S.*\n", result.stdout)
    assert result.exit_code == 0


def test_completion_completes_the_last_field_or_preset():
    """Given a list of fields, when completed, then fields and presets that begin like its last item are offered."""
    (fields,) = [parameter for parameter in COMMANDS["calls"].params if parameter.name == "fields"]
    context = click.Context(COMMANDS["calls"])
    completions = [item.value for item in fields.shell_complete(context, "id,call_st")]
    assert completions == ["id,call_start"]
    assert [item.value for item in fields.shell_complete(context, "in")] == ["insights"]
    assert set(PRESETS) == {"default", "call", "categories", "insights", "all"}


@pytest.mark.parametrize("name", [None, "backfill", "completion"])
def test_help_on_a_terminal_is_drawn_with_the_same_parameters(run, monkeypatch, name):
    """Given a terminal, when help is printed, then boxes hold every option, in the sections of the plain text."""
    arguments = [*filter(None, [name]), "--help"]
    plain = run(*arguments).stdout
    monkeypatch.setattr("iovox_async.cli.base.is_terminal", lambda _: True)
    drawn = run(*arguments).stdout
    options = set(re.findall(r"(?<= )--[a-z-]+", plain))
    assert options <= set(re.findall(r"(?<= )--[a-z-]+", drawn))
    sections = set(re.findall(r"^(\w[^:\n]*):$", plain, re.MULTILINE))
    assert sections <= set(re.findall(r"^╭─+ (.+?) ─+╮$", drawn, re.MULTILINE)) | {"Arguments"}
