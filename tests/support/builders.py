"""Feeds builders of pages as a connection does."""


def feed(builder, *parts):
    """Gives the builder these parts, in memory that has other bytes afterwards."""
    memory = bytearray(max(map(len, parts), default=0))
    for part in parts:
        memory[: len(part)] = part
        builder.feed(memoryview(memory)[: len(part)])
        memory[:] = b"~" * len(memory)
