"""A forked process has none of its parent's threads: who waits for TensorFlow's waits for ever."""

import functools
import os
import threading
import types

from rmc_tf.common.errors import UserError


@functools.cache
def _first() -> int:
    """Returns the process that TensorFlow was first used in; a fork has this answer, too."""
    return os.getpid()


def check_process() -> None:
    """Is called where TensorFlow is about to be used.

    Raises:
      UserError: it was used before this process was forked.
    """
    if os.getpid() != _first():
        raise UserError(
            f"process {os.getpid()} was forked after process {_first()} had used TensorFlow, and "
            "would wait for ever; begin it by multiprocessing.get_context('spawn'), or fork first "
            "and make the network and the defence there"
        )


class ThreadLock:
    """A re-entrant lock between threads, which refuses forked processes by a `UserError`."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        check_process()  # a fork may have copied the lock while another thread had it
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self._lock.release()
