"""Telephone numbers that belong to nobody.

The law of this room: every number lies in a range that Ofcom keeps for drama, so no call of the sandbox can ever be
anybody's. Source: Ofcom, "Telephone numbers for use in TV and radio drama programmes".
"""

from __future__ import annotations

MOBILE = ("447700900", "MOBILE,UNITED KINGDOM")
#: Beginnings of twelve-digit numbers and where they are; each has a thousand numbers.
LANDLINES = (
    ("441134960", "LEEDS,UNITED KINGDOM"),
    ("441144960", "SHEFFIELD,UNITED KINGDOM"),
    ("441154960", "NOTTINGHAM,UNITED KINGDOM"),
    ("441164960", "LEICESTER,UNITED KINGDOM"),
    ("441174960", "BRISTOL,UNITED KINGDOM"),
    ("441214960", "BIRMINGHAM,UNITED KINGDOM"),
    ("441314960", "EDINBURGH,UNITED KINGDOM"),
    ("441414960", "GLASGOW,UNITED KINGDOM"),
    ("441514960", "LIVERPOOL,UNITED KINGDOM"),
    ("441614960", "MANCHESTER,UNITED KINGDOM"),
    ("441914980", "TYNESIDE,UNITED KINGDOM"),
    ("442079460", "LONDON,UNITED KINGDOM"),
    ("442896496", "NORTHERN IRELAND,UNITED KINGDOM"),
    ("442920180", "CARDIFF,UNITED KINGDOM"),
)
#: Numbers of no town; the destinations.
NOWHERE = "441632960"
#: UK-wide numbers; the ones iovox would rent out.
NATIONAL = "443069990"


def number(beginning: str, last: int) -> str:
    """The number of a range with these last three digits."""
    return f"{beginning}{last % 1000:03d}"
