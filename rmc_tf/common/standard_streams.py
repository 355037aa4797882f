"""Standard output and error that outlast whoever reads them.

`| head` closes its pipe, a logger dies, a terminal is shut: none of that is worth hours of work.
All results are files; so a run goes on, and what it would print from then on is dropped.
"""

import contextlib
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def outlasting() -> Iterator[None]:
    """While it lasts, no write to a standard stream fails.

    A character that the stream's encoding lacks, such as the dash of an interval in a locale that
    isn't UTF-8, is written as "?". A process that was started without a stream gets one to nowhere.
    """
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(pathlib.Path(os.devnull).open("w", encoding="utf-8"))
        stack.enter_context(contextlib.redirect_stderr(sys.stderr or nowhere))
        stack.enter_context(contextlib.redirect_stdout(sys.stdout or nowhere))
        stack.enter_context(_outlasting(sys.stderr, told=False))
        stack.enter_context(_outlasting(sys.stdout, told=True))
        yield


@contextlib.contextmanager
def _outlasting(stream: TextIO, *, told: bool) -> Iterator[None]:
    """The same of one stream; on standard error it may be `told` that it is lost.

    The stream stays the object that it is, since loggers close a standard error that isn't.
    """
    really_write, really_flush = stream.write, stream.flush

    @contextlib.contextmanager
    def or_lost() -> Iterator[None]:
        try:
            yield
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())  # from now on, and for what libraries write
            os.close(nowhere)
            if told:
                line = f"rmc_tf: standard output: {error.strerror}; the work goes on without it"
                print(line, file=sys.stderr)

    def write(text: str) -> int:
        with or_lost():
            try:
                really_write(text)
            except UnicodeEncodeError:
                known = text.encode(stream.encoding, "replace")
                really_write(known.decode(stream.encoding))
        return len(text)

    def flush() -> None:
        with or_lost():
            really_flush()

    vars(stream).update(write=write, flush=flush)
    try:
        yield
    finally:
        flush()  # else Python would, at its end, and fail where this doesn't
        for name in ("write", "flush"):
            vars(stream).pop(name, None)
