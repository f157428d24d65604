"""Writes `iovox_async/docs/api.md`, the API reference, from signatures and docstrings.

python -m support.api_reference            print it
python -m support.api_reference --write    replace the file
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import griffe

import iovox_async

PACKAGE = Path(iovox_async.__file__).parent
PAGE = PACKAGE / "docs" / "api.md"
HEAD = """# API reference

Generated from the docstrings by `PYTHONPATH=tests python -m support.api_reference --write`; a test compares the two. The names
from `client` to `errors` can be imported from `iovox_async` itself.

Types in signatures: `DateLike` is a str such as `"2024-01-31"` or `"2024-01-31 09:30:00"`, a `date` or a `datetime`; `FieldNames` are
`Field`s or their names, or one str with commas; `OnError` is `"raise"` or `"skip"`; `Paging` is `"auto"`, `"windows"` or `"pages"`.

"""
#: Public modules in the order of the page. Names of the modules before `events` are exported by the package.
MODULES = (
    *("client", "stream", "follow", "results", "models", "query", "fields", "retry", "errors"),
    *("events", "dates", "blocking", "arrow", "backfill"),
    *(
        "integrations.fastapi",
        "integrations.starlette",
        "integrations.aiohttp",
        "integrations.dlt",
        "integrations.dask",
        "integrations.otel",
    ),
    *("sandbox", "sandbox.live.page", "pytest_plugin"),
)
PROTOCOLS = ("__aiter__", "__anext__", "__iter__", "__next__", "__len__", "__arrow_c_stream__")


def render() -> str:
    """Returns the text of the reference."""
    package = griffe.load("iovox_async", search_paths=[PACKAGE.parent], docstring_parser="google")
    modules = (_module(package[name]) for name in MODULES if name.split(".")[0] in package.members)
    return re.sub(r"\n{3,}", "\n\n", HEAD + "\n".join(modules))


def _module(module) -> str:
    lines = [f"## `{module.path}`", "", _text(module), ""]
    for name in _names(module):
        member = module.members.get(name)
        if member is None:
            continue
        if member.is_alias:
            member = member.final_target
        if member.is_class:
            lines += _class(member)
        elif member.is_function:
            lines += ["", f"### `{_signature(member)}`", "", *_sections(member)]
        elif member.is_attribute:
            lines += _attribute(member)
    return "\n".join(line.rstrip() for line in lines).strip() + "\n"


def _names(module) -> list[str]:
    """The public names of a module: its `__all__`, or, of the pytest plugin, its fixtures."""
    if module.exports:
        return [str(getattr(export, "name", export)) for export in module.exports]
    return [name for name, member in module.members.items() if not member.is_alias and _is_fixture(member)]


def _is_fixture(member) -> bool:
    decorators = getattr(member, "decorators", [])
    return not member.name.startswith("_") and any("fixture" in str(one.value) for one in decorators)


def _class(cls) -> list[str]:
    # The members of a private base class are described as those of this one.
    private = [base for base in cls.resolved_bases if base.path.startswith("iovox_async._")]
    members = [member for one in (cls, *private) for member in one.members.values()]
    hidden = {"Protocol", "object", *(base.name for base in private)}
    bases = [str(base) for base in cls.bases if str(base) not in hidden]
    title = f"class {cls.name}" + (f"({', '.join(bases)})" if bases else "")
    lines = ["", f"### `{title}`", ""]
    init = cls.members.get("__init__")
    described = {section.kind.value for section in _parsed(cls)}
    # A class whose arguments are not described is made by the package only.
    if init is not None and init.is_function and "parameters" in described:
        lines += ["```text", _signature(init, cls.name), "```", ""]
    lines += _sections(cls, with_attributes=False)
    descriptions = {
        item.name: _one_line(item.description)
        for section in _parsed(cls)
        if section.kind.value == "attributes"
        for item in section.value
    }
    fields = [
        member
        for member in members
        if member.is_attribute and "property" not in member.labels and not member.name.startswith("_")
    ]
    if descriptions or fields:
        lines += ["Attributes:", ""]
        lines += [_field(member, descriptions.pop(member.name, "")) for member in fields]
        lines += [f"- `{name}`: {description}" for name, description in descriptions.items()]
    for member in members:
        if member.name.startswith("_") and member.name not in PROTOCOLS:
            continue
        if original := _original(member):
            lines += ["", f"#### `{member.name}(...) -> {member.returns}`", ""]
            lines += [f"The parameters are those of `{original}`.", ""]
        elif member.is_function and (member.docstring or not member.name.startswith("_")):
            lines += ["", f"#### `{_signature(member)}`", "", *_sections(member)]
        elif member.is_attribute and "property" in member.labels:
            annotation = f": {member.annotation}" if member.annotation else ""
            lines += ["", f"#### `{member.name}{annotation}`", "", *_sections(member)]
    return lines


def _original(member) -> str | None:
    """The async method that a blocking one has its parameters from, as `AsyncInsights.page`."""
    values = (str(decorator.value) for decorator in getattr(member, "decorators", []))
    matches = (re.fullmatch(r"like\w*\(\w+\.(.+)\)", value) for value in values)
    return next((match[1] for match in matches if match), None)


def _field(member, description: str) -> str:
    """One line for a field of a class: its type, its default, and its description or the comment above it."""
    annotation = f": {member.annotation}" if member.annotation else ""
    value = "" if member.value is None else str(member.value)
    default = re.search(r"default=([^,)]+)", value)
    shown = default[1] if default else value
    shown = (
        ""
        if shown in ("", member.name) or "(" in shown or "\n" in shown or len(shown) > 40
        else f" = {shown}"
    )
    description = description or _comment(member)
    return f"- `{member.name}{annotation}{shown}`" + (f": {description}" if description else "")


def _comment(member) -> str:
    """The `#:` comment above an attribute, or its docstring."""
    if member.docstring:
        return " ".join(member.docstring.value.split())
    source = member.filepath.read_text().splitlines()
    line, comment = member.lineno - 2, []
    while line >= 0 and source[line].strip().startswith("#:"):
        comment.insert(0, source[line].strip()[2:].strip())
        line -= 1
    return " ".join(comment)


def _attribute(member) -> list[str]:
    annotation = f": {member.annotation}" if member.annotation else ""
    value = str(member.value or "")
    shown = f" = {value}" if value.startswith(("'", '"')) else ""
    return ["", f"### `{member.name}{annotation}{shown}`", "", _comment(member), ""]


def _signature(function, name: str | None = None) -> str:
    """`name(parameters) -> type`, as it is called."""
    shown, keyword_only = [], False
    for parameter in function.parameters:
        if parameter.name in ("self", "cls"):
            continue
        kind = parameter.kind.value if parameter.kind else ""
        if kind == "keyword-only" and not keyword_only:
            keyword_only = True
            if not any(text.startswith("*") for text in shown):
                shown.append("*")
        star = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        annotation = f": {parameter.annotation}" if parameter.annotation else ""
        has_default = parameter.default is not None and not star
        default = f" = {parameter.default}" if has_default else ""
        shown.append(f"{star}{parameter.name}{annotation}{default}")
    prefix = "async " if "async" in function.labels else ""
    returns = f" -> {function.returns}" if function.returns and name is None else ""
    text = f"{prefix}{name or function.name}({', '.join(shown)}){returns}"
    if name is None or len(text) < 100:
        return text
    return f"{name}(\n" + "".join(f"    {parameter},\n" for parameter in shown) + ")"


def _text(member) -> str:
    return "\n".join(_sections(member))


def _parsed(member) -> list:
    return member.docstring.parse("google", warnings=False) if member.docstring else []


def _sections(member, *, with_attributes: bool = True) -> list[str]:
    lines: list[str] = []
    for section in _parsed(member):
        kind = section.kind.value
        if kind == "attributes" and not with_attributes:
            continue
        if kind == "text":
            lines += [_markdown(section.value), ""]
        elif kind in ("parameters", "other parameters", "attributes"):
            title = "Attributes" if kind == "attributes" else "Parameters"
            lines += [f"{title}:", ""]
            lines += [f"- `{item.name}`: {_one_line(item.description)}" for item in section.value]
            lines += [""]
        elif kind in ("raises", "warns"):
            lines += ["Raises:" if kind == "raises" else "Warns:", ""]
            lines += [f"- `{item.annotation}`: {_one_line(item.description)}" for item in section.value]
            lines += [""]
        elif kind in ("returns", "yields"):
            lines += [
                f"{kind.title()}: " + " ".join(_one_line(item.description) for item in section.value),
                "",
            ]
        elif kind == "admonition":
            lines += [f"{section.title}:", "", _markdown(section.value.description), ""]
    return lines


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _markdown(text: str) -> str:
    """Turns an indented block after `::` into a fenced one."""
    lines, result, in_block = text.splitlines(), [], False
    for index, line in enumerate(lines):
        if line.rstrip().endswith("::"):
            if line.strip() != "::":
                result.append(line.rstrip()[:-1])
            following = next((later for later in lines[index + 1 :] if later.strip()), "")
            if following.startswith("    "):
                result += ["", "```text"]
                in_block = True
            continue
        if in_block and line.strip() and not line.startswith("    "):
            while result[-1] == "":
                result.pop()
            result += ["```", ""]
            in_block = False
        if in_block and result[-1] == "```text" and not line.strip():
            continue
        result.append(line[4:] if in_block else line)
    if in_block:
        result.append("```")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(result)).strip()


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(render())
    else:
        sys.stdout.write(render())
