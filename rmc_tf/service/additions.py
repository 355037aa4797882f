"""The thread that adds attacks to D', and takes them out, while queries go on (section 7).

It crafts the examples against the static network, computes their features and builds the index, all
beside what is searched; then the adaptation thread changes over between two queries. What is wanted
is on disk from the moment that a request for it is answered, so a kill goes on where it was.
"""

import dataclasses
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rmc_tf.augmented_set import appended, crafting
from rmc_tf.augmented_set.engine import Engine
from rmc_tf.augmented_set.refreshed_set import base_of
from rmc_tf.augmented_set.rows_on_disk import BENIGN
from rmc_tf.common.errors import UserError, first_line
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import AttackConfig, AugmentedSetConfig
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.rmc_plus import RMCPlus
from rmc_tf.service.answers import Stopping
from rmc_tf.service.generations import Generation, Generations, Wanted, searching

_AT_ONCE = 64
"""Images that are attacked at once, at most. Ours: between two such batches it can be stopped."""
_SHARDS = 16
"""Into which the examples of an attack are cut. Ours: a kill costs the shard in work, and D' is to
have no more files than it needs; so there are more shards where they would be large."""
_SHARD_ROWS = 512
"""Rows of a shard, at most."""
_MOST_ROWS = 100
"""Examples of one attack, at most, as a multiple of D. Ours: more is a slip of the finger."""
_MOST_WANTED = 16
"""Ours: who asks for more at a time has made a mistake."""


class TooMany(Exception):  # noqa: N818
    """As much is to be done as may be."""


class _Cancelled(Exception):  # noqa: N818
    """It isn't wanted any more, or the service stops."""


@dataclasses.dataclass
class _Progress:
    """How far something is that is to be done."""

    wanted: Wanted
    begun: float
    """By `time.monotonic`; when it was asked for, or the service began."""
    state: str = "waiting"
    made: int = 0
    here: int = 0
    """How many of these were made since `since`."""
    since: float = 0.0
    seconds: float | None = None
    """From being asked for until it was searched."""
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns what a client is told."""
        wanted = self.wanted
        told: dict[str, Any] = {"name": wanted.name, "what": wanted.what, "state": self.state}
        if wanted.what == "add":
            told |= {"rows": wanted.rows, "made": self.made}
            spent = time.monotonic() - self.since
            if self.state == "crafting" and self.here and spent:
                rate = self.here / spent
                told |= {"rows_per_second": round(rate, 2)}
                told |= {"seconds_left": round((wanted.rows - self.made) / rate, 1)}
        if self.seconds is not None:
            told["seconds"] = round(self.seconds, 3)
        return told | ({"error": self.error} if self.error else {})


class Additions:
    """Adds and takes out, one thing after another."""

    def __init__(
        self,
        generations: Generations,
        defence: RMC,
        engine: Engine,
        change_over: Callable[[Callable[[], None]], None],
        say: Callable[[str], object],
    ) -> None:
        """Prepares to go on with what is wanted; `start` starts the thread.

        Args:
          generations: of D'; opened.
          defence: that searches the present one.
          engine: who crafts.
          change_over: has the adaptation thread call something between two queries.
          say: is told, in lines, what was done.
        """
        self._generations, self._defence, self._engine = generations, defence, engine
        self._change_over, self._say = change_over, say
        self._changed = threading.Condition()  # guards the next two
        now = time.monotonic()
        self._all = [_Progress(wanted, now) for wanted in generations.wanted]
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="additions", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """Ends the thread, what is half done to be gone on with; returns whether it has ended."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def status(self) -> list[dict[str, Any]]:
        """The attacks that D' has examples of, and what is, or was, to be done."""
        present = self._generations.present
        rows = present.rows
        counts = np.bincount(rows.sources, minlength=len(rows.source_names))
        with self._changed:
            told = [each.to_dict() for each in self._all]
        done = {each["name"]: each for each in told if each["state"] == "searched"}
        searched = []
        for name, count in list(zip(rows.source_names, counts.tolist(), strict=True))[1:]:
            if count:
                own: dict[str, Any] = {"name": name, "state": "searched", "rows": count}
                own |= {"seconds": done[name]["seconds"]} if name in done else {}
                model = present.models.get(name)
                searched.append(own | ({"attack": model.to_dict()} if model else {}))
        return [*searched, *(each for each in told if each["state"] != "searched")]

    def add(self, name: str, attack: AttackConfig, rows: int | None) -> dict[str, Any]:
        """Has so many examples of an attack added, by default as many as D has rows.

        Returns:
          what `status` says of it.

        Raises:
          UserError: the name or the settings can't be, or the name is taken.
          TooMany: much is to be done already.
          OSError: the disk refuses.
        """
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,39}", name, re.ASCII):
            rule = "expected up to 40 letters, digits, -, _ and ."
            raise UserError(f"name: {name[:80]!r}, {rule}")
        if name == BENIGN:
            raise UserError(f"name: {name!r} are the rows of D themselves; choose another name")
        rows_of_d = len(self._generations.present.rows.benign_rows)
        wanted_rows = rows or rows_of_d
        if wanted_rows > _MOST_ROWS * rows_of_d:
            rule = f"expected at most {_MOST_ROWS} for each of the {rows_of_d:,} rows of D"
            raise UserError(f"rows: {wanted_rows}, {rule}")
        crafting.check_model(name, attack, self._settings(wanted_rows))
        wanted = Wanted("add", name, wanted_rows, attack.to_dict())
        return self._ask(wanted, taken=True)

    def remove(self, name: str) -> dict[str, Any]:
        """Has the examples of an attack taken out; one that is being made isn't any more.

        Returns:
          what `status` says of it.

        Raises:
          UserError: there is no such attack.
          TooMany: much is to be done already.
          OSError: the disk refuses.
        """
        with self._changed:
            for each in self._all:
                if (
                    each.wanted.name == name
                    and each.wanted.what == "add"
                    and each.state
                    in (
                        "waiting",
                        "crafting",
                    )
                ):
                    self._generations.drop(each.wanted)
                    each.state = "cancelled"
                    return each.to_dict()
        return self._ask(Wanted("remove", name), taken=False)

    def _ask(self, wanted: Wanted, taken: bool) -> dict[str, Any]:
        with self._changed:
            rows = self._generations.present.rows
            names = set(rows.source_names[1:]) - {""}  # D itself is none of them
            pending = [each for each in self._all if each.state in ("waiting", "crafting")]
            for each in pending:
                change = names.add if each.wanted.what == "add" else names.discard
                change(each.wanted.name)
            if (wanted.name in names) != (not taken):
                known = ", ".join(sorted(names)) or "none"
                remedy = "take it out first, or choose another name" if taken else f"known: {known}"
                state = "is in D' already" if taken else "no such attack in D'"
                if taken and any(each.wanted.name == wanted.name for each in pending):
                    state, remedy = "is being added", "wait for it, or call it off"
                raise UserError(f"{wanted.name}: {state}; {remedy}")
            if len(pending) >= _MOST_WANTED:
                raise TooMany
            self._generations.want(wanted)
            progress = _Progress(wanted, time.monotonic())
            # What is over is told until the same name is asked for again.
            over = [e for e in self._all if e in pending or e.wanted.name != wanted.name]
            self._all = [*over, progress]
            self._changed.notify()
            return progress.to_dict()

    def _settings(self, rows: int) -> AugmentedSetConfig:
        """How so many examples are made: as RMC⁺ makes them again, or by the defaults."""
        own = self._defence.made_by if isinstance(self._defence, RMCPlus) else AugmentedSetConfig()
        stored = base_of(self._defence.augmented_set).pixel_type
        return dataclasses.replace(
            own,
            pixels="uint8" if stored == np.uint8 else "float32",
            batch_size=min(own.batch_size, _AT_ONCE),
            shard_rows=min(own.shard_rows, _SHARD_ROWS, max(_AT_ONCE, rows // _SHARDS)),
        )

    def _run(self) -> None:
        while (progress := self._next()) is not None:
            try:
                self._do(progress)
            except (_Cancelled, Stopping):
                if progress.state == "cancelled":
                    self._generations.tidy()
            except Exception as error:
                self._fail(progress, error)

    def _next(self) -> _Progress | None:
        with self._changed:
            while not self._stopping:
                for each in self._all:
                    if each.state == "waiting":
                        return each
                self._changed.wait()
            return None

    def _do(self, progress: _Progress) -> None:
        wanted = progress.wanted
        with self._changed:
            if progress.state != "waiting":
                raise _Cancelled
            progress.state = "crafting"
            progress.since = time.monotonic()
        crafted = self._crafted(progress) if wanted.what == "add" else []
        made = self._generations.added(wanted, crafted, lambda: self._check(progress))
        search = searching(self._defence, made)
        self._change_over(lambda: self._commit(progress, made, search))
        self._generations.tidy()
        n = len(made.rows)
        what = f"{wanted.rows:,} examples by {wanted.name} are searched"
        what = what if wanted.what == "add" else f"the examples by {wanted.name} are out"
        self._say(f"{what}, D' has {n:,} rows, after {progress.seconds:.1f} s")

    def _commit(self, progress: _Progress, made: Generation, search: Callable[[], None]) -> None:
        """The moment of it, in the adaptation thread."""
        with self._changed:
            if progress.state != "crafting":
                raise _Cancelled
            self._generations.commit(made, progress.wanted)
            search()
            progress.seconds = time.monotonic() - progress.begun
            progress.state = "searched" if progress.wanted.what == "add" else "removed"

    def _crafted(self, progress: _Progress) -> list[Any]:
        wanted, first = progress.wanted, True

        def advance(rows: int) -> None:
            nonlocal first
            progress.made += rows
            progress.here += 0 if first else rows  # the first are those that were there
            first = False
            self._check(progress)

        index = self._generations.present.over
        return appended.craft(
            self._generations.present.rows,
            self._defence.static,
            wanted.name,
            AttackConfig.from_dict(wanted.attack),
            self._settings(wanted.rows),
            rows=wanted.rows,
            seed=derive_seed(index.seed, "added attack", wanted.name),
            folder=self._generations.crafting(wanted.name),
            engine=self._engine,
            advance=advance,
        )

    def _check(self, progress: _Progress) -> None:
        if self._stopping or progress.state != "crafting":
            raise _Cancelled

    def _fail(self, progress: _Progress, error: Exception) -> None:
        """What can't be done isn't wanted any more; D' is as it was."""
        progress.error, progress.state = first_line(error), "failed"
        self._say(f"{progress.wanted.what} {progress.wanted.name}: {progress.error}")
        try:
            self._generations.drop(progress.wanted)
        except OSError as full:
            self._say(f"{self._generations.folder}: {full.strerror}; it is tried again at a start")
        self._generations.tidy()
