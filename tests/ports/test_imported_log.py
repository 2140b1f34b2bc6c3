"""Imports wait for the loop's writer, on the real stream."""

from __future__ import annotations

import threading

import pytest

from adapters.imported_log import ImportedLog, NotTaken
from adapters.installation import Installation
from adapters.streams import StreamReader, loop_stream


def test_it_returns_when_the_writer_has_taken_all(installation: Installation) -> None:
    reader, stream = StreamReader(installation.client), loop_stream("imported-taken")
    log = ImportedLog(installation.engine, installation.client, "imported-taken")
    taken: list[bytes] = []

    def write() -> None:
        position = "0-0"
        while len(taken) < 7:
            for at, message in reader.read({stream: position}, 2, 1000).get(stream, []):
                taken.append(message)
                position = at
            reader.mark_applied(stream, position)

    writer = threading.Thread(target=write)
    writer.start()
    messages = [b"%d" % number for number in range(7)]
    log.append(messages[:4])
    assert taken[:4] == messages[:4]
    log.append(messages[4:])
    assert taken == messages
    writer.join()
    assert log.known(["nobody"]) == frozenset()


def test_it_gives_up_when_nobody_takes_anything(installation: Installation) -> None:
    log = ImportedLog(installation.engine, installation.client, "imported-left", patience_seconds=0.2)
    with pytest.raises(NotTaken, match=r"'imported-left': nothing was taken from its stream for 0\.2 s"):
        log.append([b"1"])
    assert StreamReader(installation.client).last(loop_stream("imported-left")) != "0-0", "it waits for a writer"
