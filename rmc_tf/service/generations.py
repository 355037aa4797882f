"""The generations of a service's D': as the bundle has it, and as attacks were added or taken out.

In the folder of the service's states are

  d_prime.json    which generation is searched, and what is still to be added or taken out
  d_prime-0002/   D' of generation 2: links to the shards of the one before, and new ones
  features-0002/  its features by the static network
  crafting/NAME/  examples that are being made

A generation is made whole before `d_prime.json` names it, by one renamed file: that is the moment
from which it is searched, also after a kill. Generation 0 is the bundle's own.
"""

import dataclasses
import pathlib
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from rmc_tf.augmented_set import appended, features
from rmc_tf.augmented_set.refreshed_set import RefreshedSet, base_of
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet, SearchedSet, Shard
from rmc_tf.common import storage
from rmc_tf.common.errors import ArtefactError, UserError
from rmc_tf.config import AttackConfig
from rmc_tf.defences.base import State
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.rmc_plus import RMCPlus
from rmc_tf.defences.rmc_state import MadeOf
from rmc_tf.search.index import FeatureIndex

_LIST = "d_prime.json"
_FEATURES = "features of a generation of D'"
_BLOCK = 512
"""Rows whose features are computed at once, and after which others have their turn."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is to be done to D': examples of an attack to add, or to take out."""

    what: Literal["add", "remove"]
    name: str
    rows: int = 0
    attack: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The settings, of one to add."""


class Generation(NamedTuple):
    """A D' that is ready to be searched."""

    number: int
    rows: AugmentedSet
    over: FeatureIndex
    """The index over its rows."""
    models: Mapping[str, AttackConfig]
    """The settings of its attacks, as far as they are known."""


class Generations:
    """Those of one service, in its folder of states, which it has to itself.

    Attributes:
      folder: of the states.
      present: the one that is searched.
    """

    def __init__(self, folder: pathlib.Path, defence: RMC) -> None:
        """Opens the present generation; the defence still searches the bundle's.

        Raises:
          UserError: they are those of another bundle.
          ArtefactError: the present one is damaged.
        """
        self.folder, self._static = folder, defence.static
        self._asked_for = defence.index.config, defence.index.k, defence.index.seed
        self._lock = threading.Lock()
        base = base_of(defence.augmented_set)
        known = defence.attack_models if isinstance(defence, RMCPlus) else {}
        self.present = Generation(0, base, defence.index, known)
        self._layouts: dict[str, appended.Layout] = {base.fingerprint: appended.layout(base)}
        self._wanted: tuple[Wanted, ...] = ()
        if (folder / _LIST).exists():
            self._open(base.fingerprint)

    def _open(self, bundle: str) -> None:
        path = self.folder / _LIST
        try:
            listed = storage.read_json(path)
            base, number = str(listed["bundle"]), int(listed["generation"])
            models = {n: AttackConfig.from_dict(a) for n, a in listed["attacks"].items()}
            wanted = tuple(Wanted(**each) for each in listed["wanted"])
            layouts: dict[str, appended.Layout] = {
                of: [(recipe, int(n)) for recipe, n in rows]
                for of, rows in listed["layouts"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ArtefactError(
                f"{path}: not a list of ours; choose another folder by --config.service.states"
            ) from None
        if base != bundle:
            raise UserError(
                f"{path}: of another bundle, whose D' is {base}, not {bundle}; choose another "
                "folder by --config.service.states"
            )
        self._wanted, self._layouts = wanted, layouts
        if number:
            rows = AugmentedSet.open(self._d_prime(number))
            self.present = Generation(number, rows, self._index(number, rows), models)
        there = set(self.present.rows.source_names)
        self._wanted = tuple(w for w in wanted if w.what != "add" or w.name not in there)
        self.tidy()

    @property
    def wanted(self) -> Sequence[Wanted]:
        """What is still to be done, in order."""
        return self._wanted

    def want(self, wanted: Wanted) -> None:
        """Adds something to do, durably.

        Raises:
          OSError: the disk refuses.
        """
        with self._lock:
            others = (w for w in self._wanted if (w.what, w.name) != (wanted.what, wanted.name))
            self._write(self.present, (*others, wanted))  # one that failed may still be there

    def drop(self, wanted: Wanted) -> None:
        """Takes something out of what is to be done.

        Raises:
          OSError: the disk refuses.
        """
        with self._lock:
            self._write(self.present, tuple(w for w in self._wanted if w is not wanted))
        shutil.rmtree(self.crafting(wanted.name), ignore_errors=True)

    def crafting(self, name: str) -> pathlib.Path:
        """Returns the folder where an attack's examples are made."""
        return self.folder / "crafting" / name

    def added(
        self,
        wanted: Wanted,
        crafted: Sequence[Shard],
        check: Callable[[], object],
    ) -> Generation:
        """Makes the next generation: the present with an attack's shards more, or without them.

        `check` is called now and then; what it raises ends it, and nothing is left.
        """
        rows = self.present.rows
        names, models = list(rows.source_names), dict(self.present.models)
        if wanted.what == "add":
            shards = [*rows.shards, *crafted]
            code = 1 + int(rows.sources.max())
            names = [*names[:code], *[""] * (code - len(names)), wanted.name]
            models[wanted.name] = AttackConfig.from_dict(wanted.attack)
        else:
            shards = appended.without(rows, wanted.name)
            names[names.index(wanted.name)] = ""
            models.pop(wanted.name, None)
        number = self.present.number + 1
        for place in (self._d_prime(number), self._features(number)):
            shutil.rmtree(place, ignore_errors=True)  # of one that a kill cut short
        made = appended.gathered(shards, names, self._d_prime(number))
        self._extract(made, number, check)
        check()
        return Generation(number, made, self._index(number, made), models)

    def commit(self, made: Generation, wanted: Wanted) -> None:
        """Has a generation be the present one, durably, and what was wanted be done.

        Raises:
          OSError: the disk refuses; all is as it was.
        """
        with self._lock:
            layout = appended.layout(made.rows)
            layouts = self._layouts | {made.rows.fingerprint: layout}
            left = tuple(w for w in self._wanted if w is not wanted)
            self._write(made, left, layouts)

    def tidy(self) -> None:
        """Deletes the generations that are searched no more, but for the last one before."""
        kept = {self.present.number, self.present.number - 1}
        for what in ("d_prime", "features"):
            for place in self.folder.glob(f"{what}-*"):
                number = place.name.rpartition("-")[2]
                if number.isdecimal() and int(number) not in kept:
                    shutil.rmtree(place, ignore_errors=True)
            for place in self.folder.glob(f".{what}-*.partial"):
                shutil.rmtree(place, ignore_errors=True)
        names = {wanted.name for wanted in self._wanted}
        for place in self.folder.glob("crafting/*"):
            if place.name not in names:
                shutil.rmtree(place, ignore_errors=True)

    def numbers(self, state: State) -> np.ndarray | None:
        """Returns which number each row of a state's D' has in the present one; None: unknown."""
        told = state.get("made_of")
        if told is None or told.shape != (len(MadeOf._fields),):
            return None
        layout = self._layouts.get(MadeOf(*map(str, told)).d_prime)
        here = self._layouts[self.present.rows.fingerprint]
        return None if layout is None else appended.renumbered(layout, here)

    def _extract(self, made: AugmentedSet, number: int, check: Callable[[], object]) -> None:
        """Writes features: those that the present generation has are copied, others computed."""
        before = dict(
            zip(
                (shard.recipe for shard in self.present.rows.shards),
                self.present.rows.shard_ranges,
                strict=True,
            )
        )
        place = self._features(number)
        old = self.present.over.features
        shape = (len(made), old.shape[1])
        with (
            storage.committing(place, kind=_FEATURES, fingerprint=made.fingerprint) as beside,
            (beside / "features.npy").open("wb") as file,
        ):
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for shard, rows in zip(made.shards, made.shard_ranges, strict=True):
                known = before.get(shard.recipe)
                for begin in range(0, len(rows), _BLOCK):
                    check()
                    part = slice(begin, begin + _BLOCK)
                    if known is not None:
                        block = old[known[part].start : known[part].stop]
                    else:
                        block, _ = features.of_rows(self._static, made, np.array(rows[part]))
                    file.write(np.ascontiguousarray(block, np.float32).tobytes())

    def _index(self, number: int, rows: SearchedSet) -> FeatureIndex:
        place = self._features(number)
        storage.check(place, kind=_FEATURES, fingerprint=rows.fingerprint)
        config, k, seed = self._asked_for
        given = np.load(place / "features.npy", mmap_mode="r")
        return FeatureIndex(given, config, k, seed=seed)

    def _write(
        self,
        present: Generation,
        wanted: tuple[Wanted, ...],
        layouts: dict[str, appended.Layout] | None = None,
    ) -> None:
        """Writes the list; only then is it so here, too."""
        layouts = self._layouts if layouts is None else layouts
        attacks = {name: model.to_dict() for name, model in present.models.items()}
        storage.write_json(
            self.folder / _LIST,
            {
                "bundle": next(iter(layouts)),
                "generation": present.number,
                "attacks": attacks,
                "wanted": [dataclasses.asdict(each) for each in wanted],
                "layouts": layouts,
            },
        )
        storage.flush(self.folder)
        self.present, self._wanted, self._layouts = present, wanted, layouts

    def _d_prime(self, number: int) -> pathlib.Path:
        return self.folder / f"d_prime-{number:04}"

    def _features(self, number: int) -> pathlib.Path:
        return self.folder / f"features-{number:04}"


def searching(defence: RMC, made: Generation) -> Callable[[], None]:
    """Prepares a defence to search a generation; returns what does it, at once.

    Raises:
      UserError: the defence can't: K is larger than that D', say.
    """
    if isinstance(defence, RMCPlus):
        before = appended.layout(base_of(defence.augmented_set))
        numbers = appended.renumbered(before, appended.layout(made.rows))
        refreshed = RefreshedSet(made.rows, made.over)
        return defence.searching(refreshed, made.over, made.models, numbers)
    return defence.searching(made.rows, made.over)
