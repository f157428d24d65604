"""`iovox docs`: shows the guides that are installed with the package."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

import click

from ..base import command, unknown_topic
from ..console import is_terminal, stdout_screen
from ..options import complete

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_LINE_WIDTH: Final = 100


def guides() -> dict[str, Traversable]:
    """The files of the guides by topic, in alphabetical order."""
    pages = (files("iovox_async") / "docs").iterdir()
    by_topic = {page.name.removesuffix(".md"): page for page in pages if page.name.endswith(".md")}
    return dict(sorted(by_topic.items()))


@command(
    ("the list of topics", "iovox docs"),
    ("one guide", "iovox docs backfill"),
    ("page by page", "iovox docs exactness | less"),
)
@click.argument(
    "topic", required=False, help="The guide to show.", shell_complete=complete(lambda: [*guides()])
)
def docs(topic: str | None) -> None:
    """Runs `iovox docs`.

    Without TOPIC, it lists the topics. In a pipe, the text is Markdown as it stands.
    """
    pages = guides()
    if topic is None:
        width = max(map(len, pages))
        for name, page in pages.items():
            title = page.read_text("utf-8").partition("\n")[0].removeprefix("# ")
            click.echo(f"{name:{width}}  {title}")
        return
    name = topic.lower().removesuffix(".md")
    if name not in pages:
        raise unknown_topic(topic, pages)
    text = pages[name].read_text("utf-8")
    if not is_terminal("stdout"):
        click.echo(text, nl=False)
        return
    from rich.markdown import Markdown

    screen = stdout_screen()
    screen.print(Markdown(text, hyperlinks=False), width=min(screen.width, _LINE_WIDTH))
