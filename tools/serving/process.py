"""A service in a process of its own, as a tool or a test starts it, asks it and ends it."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rmc_tf.common.errors import UserError
from rmc_tf.service import tokens
from rmc_tf.service.client import Client

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKEN = "of tools alone, on loopback"
_READY_SECONDS = 600.0
"""Until which a service is ready: the first makes its network and its D'. Ours."""


class Service:
    """A running service.

    Attributes:
      said: its lines so far, standard output and errors together.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        """Starts a process that says where it listens; `wait` waits until it is ready."""
        self.said: list[str] = []
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", tokens.VARIABLE: TOKEN}
            | dict(environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        """Waits until it is ready; see `wait`."""
        try:
            return self.wait()
        except BaseException:
            self.kill()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Kills it, if it is still there."""
        self.kill()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line.rstrip("\n"))

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process.poll() is None

    @property
    def url(self) -> str:
        """Its address; "" as long as it hasn't said it."""
        found = (re.match(r"serve: (http://\S+)/v1/models/", line) for line in list(self.said))
        return next((match[1] for match in found if match), "")

    @property
    def bundle(self) -> pathlib.Path:
        """The folder of what it serves, as `--mode=serve` has said it.

        Raises:
          UserError: it hasn't.
        """
        for line in self.said:
            if found := re.match(r"bundle: (?:reused from )?(.+?)(?:, the defence.*)?$", line):
                return ROOT / found[1]
        raise UserError("the service has not said what it serves; start it by --mode=serve")

    @property
    def client(self) -> Client:
        """What asks it, with its token."""
        return Client(self.url, token=TOKEN, timeout=_READY_SECONDS)

    def wait(self) -> Self:
        """Waits until it is ready; returns it.

        Raises:
          UserError: it has ended before, or it takes too long.
        """
        end = time.monotonic() + _READY_SECONDS
        while not (self.url and self.client.ready()):
            ended = not self.running or any("adaptation has ended" in line for line in self.said)
            if ended or time.monotonic() > end:
                self._reader.join(1.0)
                last = self.said[-1] if self.said else "it said nothing"
                raise UserError(f"the service didn't begin: {last}")
            time.sleep(0.05)
        return self

    def terminate(self) -> int:
        """Sends SIGTERM and waits; returns its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._ended()

    def kill(self) -> int:
        """Sends SIGKILL and waits; returns its exit status."""
        self._process.kill()
        return self._ended()

    def _ended(self) -> int:
        status = self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return status


def serve(flags: Sequence[str], states: pathlib.Path) -> Service:
    """Returns `--mode=serve` on a free port, which has just begun.

    Args:
      flags: of rmc_tf.main, which says what is served.
      states: the folder of its states.
    """
    own = ["--config.service.port=0", f"--config.service.states={states}"]
    return Service([sys.executable, "-m", "rmc_tf.main", "--mode=serve", *own, *flags])
