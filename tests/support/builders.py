"""Feeds builders of pages as a connection does."""


def feed(builder, *parts):
    """Gives the builder these parts: in its own memory if it has some, otherwise in memory that has other bytes afterwards."""
    memory = bytearray(max(map(len, parts), default=0))
    for part in parts:
        rest = memoryview(part)
        while rest:
            space = builder.space()
            block = memoryview(memory if space is None else space)[: len(rest)]
            block[:] = rest[: len(block)]
            builder.feed(block)
            rest = rest[len(block) :]
            memory[:] = b"~" * len(memory)
