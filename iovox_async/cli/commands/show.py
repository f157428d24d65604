"""`iovox show`: one call, readable.

The law of this room: everything that is known of the call is shown, and nothing that it lacks.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec
import rich_click as click
from click.exceptions import Exit
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from iovox_async import Fields

from ..console import clean, complain, show_page, span
from ..errors import FAILED, run
from ..help_text import with_examples
from ..options import Account, session_options

if TYPE_CHECKING:
    from iovox_async import Call, Categories, Task, Transcription

__all__ = ["describe", "show"]

_COLOURS = {"BLUE": "blue", "GREEN": "green", "GOLD": "yellow", "RED": "red"}
_SPEAKERS = {"caller": "cyan", "called": "green"}
_MOMENT = "%Y-%m-%d %H:%M:%S"
#: How what the endpoint answers with TRUE and FALSE is told.
_YES = {"TRUE": "yes", "FALSE": "no"}


@click.command(
    help=with_examples(
        """
        One call, readable: who, when, how long, the dialogue, tags, keywords, tasks, comments, categories.
        """,
        ("an id from iovox calls", "iovox show 30683207599876"),
    ),
)
@click.argument("id", type=int, help="The call's id.", panel="Call")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead.", panel="Call")
@session_options
def show(id: int, *, as_json: bool, account: Account) -> None:  # noqa: A002 - the endpoint's own word
    """Shows a call."""

    async def find() -> list[Call]:
        async with account.session() as insights:
            return await insights.get(id, fields=Fields.ALL)

    found = run(find)
    if not found:
        complain(f"There is no call {id} in this account.")
        raise Exit(FAILED)
    if as_json:
        click.echo(msgspec.json.encode(found[0].to_dict()), file=sys.stdout)
    else:
        show_page(describe(found[0]))


def describe(call: Call) -> RenderableType:
    """The call as a page of text."""
    parts: list[RenderableType] = [_head(call), _facts(call)]
    for transcription in call.transcriptions:
        parts += _section("Dialogue", _dialogue(transcription))
    parts += _section("Tags", Text("\n").join(map(_tag, call.tags)))
    parts += _section("Keyword rules", _plain(_rules(call)))
    parts += _section("Outcomes", _plain(_outcome(outcome) for outcome in call.call_outcomes))
    parts += _section("Tasks", _plain(map(_task, call.tasks)))
    comments = (_said(comment.text, comment.username, comment.created) for comment in call.comments)
    parts += _section("Comments", _plain(comments))
    parts += _section("Categories", _categories(call.categories))
    if call.extra:
        parts += _section(
            "Also answered", _plain(f"{key}: {_value(value)}" for key, value in call.extra.items())
        )
    return Group(*parts)


def _section(title: str, body: Text | Table) -> list[RenderableType]:
    empty = not body.plain if isinstance(body, Text) else not body.rows
    return [] if empty else [Text(f"\n{title}", "bold"), Padding(body, (0, 0, 0, 2), expand=False)]


def _plain(lines: Any) -> Text:
    return Text("\n".join(clean(line) for line in lines))


def _head(call: Call) -> Text:
    result = call.call_result or ""
    style = "green" if result == "ANSWERED" else "yellow"
    return Text.assemble(("Call ", "bold"), (str(call.id), "bold"), "  ", (clean(result), style))


def _facts(call: Call) -> Table:
    began = f"{call.call_start:{_MOMENT}}" if call.call_start is not None else ""
    ended = f" to {call.call_end:%H:%M:%S}" if call.call_end else ""
    spans = [(call.talk_time, "talked"), (call.call_time, "in all")]
    place = f" ({call.call_origin_location})" if call.call_origin_location else ""
    rows = {
        "When": began + ended,
        "How long": ", ".join(
            f"{span(time.total_seconds())} {what}" for time, what in spans if time is not None
        ),
        "From": f"{call.call_origin or ''}{place}",
        "iovox number": call.iovox_number,
        "Put through to": call.call_destination,
        "Node": _entity(call.node_name, call.node_id, call.node_type),
        "Link": _entity(call.link_name, call.link_id, call.link_type),
        "Direction": call.direction,
        "Type": call.call_type,
        "Rule": call.rule_result,
        "Recording": _YES.get(str(call.has_recording).upper()),
        "E-mail alert": _YES.get(str(call.email_alert).upper(), call.email_alert),
    }
    table = Table.grid(padding=(0, 2))
    for name, told in rows.items():
        if told:
            table.add_row(Text(name, "dim"), Text(clean(told)))
    return table


def _entity(name: str | None, number: str | None, kind: str | None) -> str:
    known = ", ".join(part for part in (number and f"id {number}", kind) if part)
    return f"{name or ''}{f' ({known})' if known else ''}".strip()


def _dialogue(transcription: Transcription) -> Text | Table:
    if not transcription.phrases:
        return Text(clean(transcription.text or ""))
    table = Table.grid(padding=(0, 2))
    for phrase in transcription.phrases:
        speaker = phrase.speaker or ""
        table.add_row(
            Text("" if phrase.start is None else span(phrase.start / 1000), "dim"),
            Text(clean(speaker), _SPEAKERS.get(speaker, "")),
            Text(clean(phrase.phrase or "")),
        )
    return table


def _tag(tag: Any) -> Text:
    colour = tag.colour or ""
    known = ", ".join(part.lower() for part in (colour, tag.source_type) if part)
    return Text.assemble(
        ("\u25cf ", _COLOURS.get(colour, "")),
        (clean(tag.text or ""), _COLOURS.get(colour, "")),
        (f"  ({clean(known)})" if known else "", "dim"),
    )


def _rules(call: Call) -> Any:
    for rule in call.keyword_rules:
        words = ", ".join(
            f"{word.keyword or ''}{f' x{word.count}' if word.count is not None else ''}"
            for word in rule.keywords
        )
        yield f"{rule.keyword_rule or ''}{f': {words}' if words else ''}"


def _task(task: Task) -> str:
    dates = (("created", task.created), ("due", task.due_date), ("reminder", task.reminder_date))
    known = [task.status, f"for {task.assigned_username}" if task.assigned_username else None]
    known += [f"by {task.username}" if task.username else None]
    known += [f"{what} {moment:%Y-%m-%d %H:%M}" for what, moment in dates if moment]
    told = ", ".join(part for part in known if part)
    return f"{task.reminder_message or '(no message)'}{f'  ({told})' if told else ''}"


def _said(text: str | None, who: str | None, when: Any) -> str:
    known = ", ".join(part for part in (who, f"{when:%Y-%m-%d %H:%M}" if when else None) if part)
    return f"{text or ''}{f'  ({known})' if known else ''}"


def _outcome(outcome: Any) -> str:
    if isinstance(outcome, dict) and all(not isinstance(value, dict | list) for value in outcome.values()):
        return ", ".join(str(value) for value in outcome.values() if value is not None)
    return _value(outcome)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _categories(categories: Categories | None) -> Table:
    table = Table.grid(padding=(0, 2))
    for kind in ("call", "node", "link", "contact"):
        for category in getattr(categories, f"{kind}_categories", ()):
            told = f"{category.label or ''}: {category.value or ''}".removeprefix(": ").removesuffix(": ")
            table.add_row(Text(kind, "dim"), Text(clean(told)))
    return table
