"""Profiles: which values win, where keys come from, and what is refused."""

import sys

import pytest
from rich.pretty import pretty_repr
from support.cli import parse_lines

from iovox_async._profiles import Profile
from iovox_async.cli.options import Account
from iovox_async.sandbox import KEY, USERNAME

START = "2024-01-01"
NO_ENVIRONMENT = dict.fromkeys(("IOVOX_USERNAME", "IOVOX_SECURE_KEY", "IOVOX_URL"))


@pytest.fixture
def configure(tmp_path, monkeypatch):
    """Writes the configuration file."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("APPDATA", str(tmp_path))
    path = tmp_path / "iovox" / "config.toml"

    def configure(text, mode=0o600):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        path.chmod(mode)
        return path

    return configure


def profile(sandbox, name="uk", key=KEY, **entries):
    entries = {"username": USERNAME, "url": sandbox.url} | entries
    command = f"{sys.executable} -c 'print(\"{key}\")'"
    lines = [f'{entry} = "{value}"' for entry, value in entries.items()]
    return "\n".join([f"[profiles.{name}]", *lines, f"secure_key_command = '''{command}'''", ""])


def test_a_profile_is_all_that_is_needed(run, sandbox, configure):
    """Given a profile whose command prints the key, when named by option or variable, or default, then calls are read."""
    configure(profile(sandbox) + profile(sandbox, "default", timezone="Europe/London"))
    expected = len(sandbox.ids(START, START))
    for args, env in ((["--profile", "uk"], {}), ([], {"IOVOX_PROFILE": "uk"}), ([], {})):
        result = run("calls", START, START, *args, env=NO_ENVIRONMENT | env)
        assert (result.exit_code, len(result.stdout.splitlines())) == (0, expected)


@pytest.mark.parametrize(
    ("args", "env", "zone"),
    [
        ([], {}, "Asia/Tokyo"),
        ([], {"IOVOX_TIMEZONE": "UTC"}, "UTC"),
        (["--timezone", "CET"], {"IOVOX_TIMEZONE": "UTC"}, "CET"),
    ],
    ids=["profile", "environment", "option"],
)
def test_options_win_over_the_environment_and_that_over_the_profile(run, sandbox, configure, args, env, zone):
    """Given a time zone in several places, when a range is typed in words, then the first of them is used and shown."""
    configure(profile(sandbox, timezone="Asia/Tokyo"))
    result = run("calls", "yesterday", "--profile", "uk", *args, env=NO_ENVIRONMENT | env)
    assert result.exit_code == 0
    assert f", {zone}.\n" in result.stderr


def test_a_profile_key_is_not_used_with_another_user(run, sandbox, configure):
    """Given another user in the environment, then the profile's key is not sent, and the missing one is named."""
    configure(profile(sandbox))
    result = run("calls", START, "--profile", "uk", env=NO_ENVIRONMENT | {"IOVOX_USERNAME": "other"})
    assert result.exit_code == 4
    assert "IOVOX_USERNAME overrides the user of the profile uk" in result.stderr
    assert "IOVOX_SECURE_KEY" in result.stderr


@pytest.mark.parametrize(
    ("text", "args", "message"),
    [
        ("[profiles.uk]\nusername = 'a'", ["--profile", "ukk"], "has no profile ukk; did you mean 'uk'?"),
        (
            "[profiles.uk]\nuser_name = 'a'",
            [],
            "user_name in uk is not an entry of a profile; did you mean 'username'?",
        ),
        ("[profiles.uk]\ntimezone = 1", [], "timezone in uk must be a text"),
        ("[profiles.uk", [], "is not TOML"),
        ("x = " + 3_000 * "[", [], "is nested too deeply"),
        ("[uk]\npage_size = 1.5", [], "page_size in uk must be a whole number"),
        ("[uk]\ntimeout = '60'", [], "timeout in uk must be a number"),
        ("[uk]\n[profiles.uk]", [], "has the profile uk twice"),
        ("default_profile = 1", [], "default_profile must be the name of a profile"),
        ("uk = 1", [], "uk must be a table"),
        ("profiles = 1", [], "profiles must be tables such as [profiles.uk]"),
        ("[uk]\nsecure_key_command = ' '", [], "secure_key_command in uk must be a command"),
        pytest.param(
            '[uk]\nsecure_key_command = "pass \'uk"',
            [],
            "with every quotation mark closed.",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="there, ' is no quotation mark"),
        ),
    ],
    ids=[
        "name",
        "entry",
        "type",
        "syntax",
        "depth",
        "fraction",
        "number as text",
        "twice",
        "default",
        "no table",
        "no tables",
        "no command",
        "open quotation mark",
    ],
)
def test_a_wrong_file_is_a_usage_error(run, sandbox, configure, text, args, message):
    """Given a configuration file with a mistake, when a command runs, then it names file and mistake; nothing is sent."""
    path = configure(text)
    result = run("calls", START, *args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "?." not in result.stderr
    assert str(path) in result.stderr
    assert run("profiles").exit_code == (0 if "--profile" in args else 2)
    assert sandbox.stats.requests == 0


def test_a_default_profile_that_does_not_exist_is_a_usage_error(run, sandbox, configure):
    """Given `default_profile` with an unknown name, when no profile is named, then no other account is used instead."""
    path = configure('default_profile = "us"\n' + profile(sandbox))
    result = run("calls", START, START)
    assert result.exit_code == 2
    assert f"{path} has no profile us, its default_profile. It has uk." in result.stderr
    assert sandbox.stats.requests == 0
    assert run("calls", START, START, "--profile", "uk", env=NO_ENVIRONMENT).exit_code == 0
    assert run("profiles").exit_code == 0


def test_a_byte_order_mark_is_allowed(run, sandbox, configure):
    """Given a file that an editor on Windows has written, when it begins with a byte order mark, then it is read."""
    configure("\ufeff" + profile(sandbox, "default"))
    assert run("calls", START, START, env=NO_ENVIRONMENT).exit_code == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_a_key_in_the_file_needs_a_private_file(run, sandbox, configure):
    """Given a key in the file, when others can read it, then it is refused and not shown; else it is used."""
    text = f'[profiles.uk]\nusername = "{USERNAME}"\nurl = "{sandbox.url}"\nsecure_key = "{KEY}"\n'
    configure(text, 0o640)
    refused = run("calls", START, START, "--profile", "uk", env=NO_ENVIRONMENT)
    assert refused.exit_code == 2
    assert "chmod 600" in refused.stderr
    assert KEY not in refused.output
    configure(text, 0o600)
    assert run("calls", START, START, "--profile", "uk", env=NO_ENVIRONMENT).exit_code == 0


def test_a_command_that_fails_is_an_error_of_credentials(run, sandbox, configure):
    """Given a secure_key_command that fails, when a command runs, then it says so without its output; exit code 4."""
    configure(
        f"[profiles.uk]\nusername = 'a'\nsecure_key_command = '{sys.executable} -c \"print(7 * 6); exit(3)\"'"
    )
    result = run("calls", START, "--profile", "uk", env=NO_ENVIRONMENT)
    assert result.exit_code == 4
    assert "The secure_key_command of the profile uk failed (exit code 3)." in result.stderr
    assert "42" not in result.output


def test_profiles_are_listed_without_keys(run, sandbox, configure):
    """Given two profiles, when listed, then each has a line, the default is marked, and no key is shown."""
    configure(
        profile(sandbox)
        + profile(sandbox, "de", timezone="Europe/Berlin")
        + '[default]\nsecure_key = "canary"\n'
    )
    result = run("profiles")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[0] for line in lines] == ["profile", "de", "default*", "uk"]
    assert lines[1][1:4] == [USERNAME, sandbox.url, "Europe/Berlin"]
    assert "canary" not in result.output


def test_json_of_show_with_a_profile(run, sandbox, configure):
    """Given a profile, when a call is shown, then it is read from the profile's account."""
    configure(profile(sandbox))
    call_id = sandbox.ids()[0]
    result = run("show", call_id, "--json", "--profile", "uk", env=NO_ENVIRONMENT)
    assert parse_lines(result.stdout)[0]["id"] == call_id


def test_no_drawing_of_a_profile_or_an_account_shows_its_key():
    """Given a profile and an account, when rich draws them, as in its tracebacks, then their entries are left out."""
    entries = {"secure_key": KEY}
    assert [pretty_repr(thing) for thing in (Profile("uk", entries), Account(entries, "uk"))] == [
        "Profile(name='uk')",
        "Account(profile='uk')",
    ]


def test_a_client_may_use_a_socks_proxy(monkeypatch):
    """Given that socksio is blocked, as by the start of the command, when a client is made, then it can be imported."""
    monkeypatch.setitem(sys.modules, "socksio", None)
    Account({"username": USERNAME, "secure_key": KEY, "proxy": "socks5://127.0.0.1:9"}).client()
    assert sys.modules.get("socksio", "not imported yet") is not None
