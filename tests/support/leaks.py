"""Looks everywhere where an error or a log may show something: texts, arguments, causes, frames."""

import copy
import pickle
import traceback


def links(error):
    """An error and all errors reachable from it: causes, contexts, groups, attributes and arguments."""
    todo, seen = [error], {}
    while todo:
        link = todo.pop()
        if not isinstance(link, BaseException) or id(link) in seen:
            continue
        seen[id(link)] = link
        todo += [link.__cause__, link.__context__, *link.args, *vars(link).values()]
        todo += getattr(link, "exceptions", ())
    return list(seen.values())


def shown(error, test_file):
    """All texts that may show an error, including the variables of its frames outside the test's own file."""
    for link in links(error):
        yield from (str(link), repr(link), repr(link.args), repr(vars(link)))
        yield repr(getattr(link, "__notes__", None))
        yield repr(getattr(link, "object", None))
        for frame, _ in traceback.walk_tb(link.__traceback__):
            if frame.f_code.co_filename != test_file:
                for name, value in frame.f_locals.items():
                    yield f"{frame.f_code.co_qualname}: {name} = {value!r}"
    yield "".join(traceback.format_exception(error))
    yield pickle.dumps(error).decode("latin-1")
    yield repr(copy.copy(error))
