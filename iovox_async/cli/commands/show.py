"""`iovox show`: shows one call with all its parts."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from iovox_async import Fields

from ..base import argument, command, option
from ..console import escape_controls, format_duration, print_page
from ..errors import run
from ..options import Account, account_options
from ..tables import grid

if TYPE_CHECKING:
    from rich.table import Table

    from iovox_async import Call, Categories, Task, Transcription

_TAG_STYLES: Final = {"BLUE": "blue", "GREEN": "green", "GOLD": "yellow", "RED": "red"}
_SPEAKER_STYLES: Final = {"caller": "cyan", "called": "green"}
#: The endpoint's TRUE and FALSE.
_YES_NO: Final = {"TRUE": "yes", "FALSE": "no"}


def _only_id(ctx: click.Context, _argument: click.Parameter, ids: tuple[str, ...]) -> int:
    if len(ids) == 1 and ids[0].isascii() and ids[0].isdecimal():
        return int(ids[0])
    hint = " Run iovox show once for each id." if len(ids) > 1 or "," in ids[0] else ""
    raise click.UsageError(f"ID must be the id of one call, got {shlex.join(ids)}.{hint}", ctx)


@command(("an id from iovox calls", "iovox show 30683207599876"))
@argument("id", metavar="ID", nargs=-1, required=True, callback=_only_id, help="The call's id.", panel="Call")
@option("--json", "as_json", is_flag=True, help="Print one JSON document instead.", panel="Call")
@account_options
def show(id: int, *, as_json: bool, account: Account) -> None:  # noqa: A002 - the endpoint's own word
    """Runs `iovox show`."""

    async def get() -> Call:
        async with account.client() as insights:
            calls = await insights.get(id, fields=Fields.ALL)
        if not calls:
            raise click.ClickException(f"There is no call {id} in this account.")
        return calls[0]

    call = run(get)
    if as_json:
        from iovox_async._encoding import encode_json  # a slow import, and `--help` does not need it

        click.echo(encode_json(call))
    else:
        print_page(render_call(call))


def render_call(call: Call) -> RenderableType:
    """A call as a page of text; parts that it does not have are left out."""
    comments = (
        _with_details(comment.text or "", comment.username, _minute(comment.created))
        for comment in call.comments
    )
    sections: list[tuple[str, Text | Table]] = [
        *(("Transcript", _transcript(transcription)) for transcription in call.transcriptions),
        ("Tags", Text("\n").join(map(_tag, call.tags))),
        ("Keyword rules", _lines(_keyword_rules(call))),
        ("Outcomes", _lines(map(_outcome, call.call_outcomes))),
        ("Tasks", _lines(map(_task, call.tasks))),
        ("Comments", _lines(comments)),
        ("Categories", _categories(call.categories)),
        ("Other", _lines(f"{key}: {_json(value)}" for key, value in call.extra.items())),
    ]
    parts: list[RenderableType] = [_title(call), _properties(call)]
    for title, body in sections:
        if body.plain if isinstance(body, Text) else body.rows:
            parts += [Text(f"\n{title}", "bold"), Padding(body, (0, 0, 0, 2), expand=False)]
    return Group(*parts)


def _lines(lines: Iterable[str]) -> Text:
    return Text("\n".join(map(escape_controls, lines)))


def _minute(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else ""


def _with_details(text: str, *details: str | None, gap: str = "  ") -> str:
    """The text followed by its details in parentheses; empty details are left out."""
    joined = ", ".join(filter(None, details))
    return f"{text}{gap}({joined})" if joined else text


def _title(call: Call) -> Text:
    result = call.call_result or ""
    style = "green" if result == "ANSWERED" else "yellow"
    return Text.assemble(("Call ", "bold"), (str(call.id), "bold"), "  ", (escape_controls(result), style))


def _properties(call: Call) -> Table:
    start = f"{call.call_start:%Y-%m-%d %H:%M:%S}" if call.call_start is not None else ""
    end = f" to {call.call_end:%H:%M:%S}" if call.call_end else ""
    durations = [(call.talk_time, "talk time"), (call.call_time, "in total")]
    rows = {
        "When": start + end,
        "Duration": ", ".join(
            f"{format_duration(duration.total_seconds())} {label}"
            for duration, label in durations
            if duration is not None
        ),
        "From": _with_details(call.call_origin or "", call.call_origin_location, gap=" "),
        "iovox number": call.iovox_number,
        "Connected to": call.call_destination,
        "Node": _entity(call.node_name, call.node_id, call.node_type),
        "Link": _entity(call.link_name, call.link_id, call.link_type),
        "Direction": call.direction,
        "Type": call.call_type,
        "Rule": call.rule_result,
        "Recording": _YES_NO.get(str(call.has_recording).upper()),
        "E-mail alert": _YES_NO.get(str(call.email_alert).upper(), call.email_alert),
    }
    return grid((Text(name, "dim"), Text(escape_controls(value))) for name, value in rows.items() if value)


def _entity(name: str | None, number: str | None, kind: str | None) -> str:
    return _with_details(name or "", number and f"id {number}", kind, gap=" ").strip()


def _transcript(transcription: Transcription) -> Text | Table:
    if not transcription.phrases:
        return Text(escape_controls(transcription.text or ""))
    return grid(
        (
            Text("" if phrase.start is None else format_duration(phrase.start / 1000), "dim"),
            Text(escape_controls(phrase.speaker or ""), _SPEAKER_STYLES.get(phrase.speaker or "", "")),
            Text(escape_controls(phrase.phrase or "")),
        )
        for phrase in transcription.phrases
    )


def _tag(tag: Any) -> Text:
    colour = tag.colour or ""
    style = _TAG_STYLES.get(colour, "")
    details = _with_details("", colour.lower(), tag.source_type and tag.source_type.lower())
    text = escape_controls(tag.text or "")
    return Text.assemble(("\u25cf ", style), (text, style), (escape_controls(details), "dim"))


def _keyword_rules(call: Call) -> Iterator[str]:
    for rule in call.keyword_rules:
        keywords = ", ".join(
            f"{keyword.keyword or ''}{f' x{keyword.count}' if keyword.count is not None else ''}"
            for keyword in rule.keywords
        )
        yield f"{rule.keyword_rule or ''}{f': {keywords}' if keywords else ''}"


def _task(task: Task) -> str:
    dates = (("created", task.created), ("due", task.due_date), ("reminder", task.reminder_date))
    return _with_details(
        task.reminder_message or "(no message)",
        task.status,
        task.assigned_username and f"for {task.assigned_username}",
        task.username and f"by {task.username}",
        *(f"{label} {_minute(date)}" for label, date in dates if date),
    )


def _outcome(outcome: Any) -> str:
    if isinstance(outcome, dict) and all(not isinstance(value, dict | list) for value in outcome.values()):
        return ", ".join(str(value) for value in outcome.values() if value is not None)
    return _json(outcome)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _categories(categories: Categories | None) -> Table:
    return grid(
        (Text(kind, "dim"), Text(escape_controls(": ".join(filter(None, (category.label, category.value))))))
        for kind in ("call", "node", "link", "contact")
        for category in getattr(categories, f"{kind}_categories", ())
    )
