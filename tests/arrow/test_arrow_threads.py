"""Pages of one stream may be decoded in the event loop and in a thread at the same time."""

from support.arrow_pages import converter_of
from support.waiting import start_meanwhile


def test_a_value_that_another_thread_coerces_does_not_count_here():
    """Given a value as documented, when a thread coerces another one meanwhile, then only that one counts as coerced."""
    converter = converter_of()
    read, threads, coerced = converter._hooks["bool"], [], []

    def read_meanwhile(text, kind):
        if text == "TRUE":
            threads.append(start_meanwhile(lambda: coerced.append(converter._parse("bool", "1"))))
        return read(text, kind)

    converter._hooks["bool"] = read_meanwhile
    assert converter._parse("bool", "TRUE") == (True, False)
    threads[0].join()
    assert coerced == [(True, True)]
