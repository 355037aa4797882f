"""Who makes the shards of an artefact that aren't there yet: this process, or many workers.

A stage says how one shard is made (`Job`), and an engine has it done for each that
is missing: `Engine` itself here, `rmc_tf.augmented_set.distributed` on several machines.
A shard is made by the same function from the same seed in either, and is committed
whole or not at all. One that lies beside, in a folder of another artefact of the same stage,
and was made by the same recipe, is taken as it is.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from rmc_tf.common import storage
from rmc_tf.common.errors import ArtefactError
from rmc_tf.common.progress import progress
from rmc_tf.networks.classifier import Classifier

_SHARD = "shard-"
Advance = Callable[[int], object]
"""Is told how many rows have just been made."""


@dataclasses.dataclass(frozen=True)
class Work:
    """One shard to make; small, and can be pickled."""

    shard: str
    """Its name."""
    rows: int
    """How many rows it will have."""
    recipe: str
    """The fingerprint of all that it is made from."""


Some = TypeVar("Some", bound=Work)
_SomeContra = TypeVar("_SomeContra", bound=Work, contravariant=True)
Make = Callable[[Some, pathlib.Path, Advance], object]
"""Makes a shard and commits it, under its name, in a folder."""


class Job(Protocol[_SomeContra]):
    """How the shards of one artefact are made; it can be pickled, and is small then."""

    @property
    def folder(self) -> pathlib.Path:
        """Where the shards shall be; its neighbours hold those of other artefacts."""

    @property
    def kind(self) -> str:
        """What a shard is called."""

    def maker(self, classifier: Classifier) -> Make[_SomeContra]:
        """Opens and compiles what many shards need, and returns what makes one of them."""


class Engine:
    """Has the shards of a job made: by this process, one after another."""

    def make(
        self, job: Job[Some], todo: Sequence[Some], classifier: Classifier, advance: Advance
    ) -> None:
        """Makes those `todo`, and returns when all are committed in the job's folder.

        Raises:
          UserError: what the user can mend; what is committed by then stays.
        """
        make = job.maker(classifier)
        for work in todo:
            make(work, job.folder, advance)


def shard_name(number: int) -> str:
    """Returns the name of a shard of an artefact, which are numbered from 0."""
    return f"{_SHARD}{number:05d}"


def make_missing(
    job: Job[Some], plan: Sequence[Some], classifier: Classifier, engine: Engine | None, what: str
) -> None:
    """Has those of all shards made that aren't there; `what` is for the display of progress."""
    if todo := _missing(job, plan):
        wanted = {work.recipe: work.shard for work in todo}
        take_from_neighbours(job.folder, job.kind, wanted)
    if todo := _missing(job, plan):
        total, left = (sum(work.rows for work in works) for works in (plan, todo))
        with progress(what, total, total - left, "image") as advance:
            (engine or Engine()).make(job, todo, classifier, advance)


def _missing(job: Job[Some], plan: Sequence[Some]) -> list[Some]:
    return [work for work in plan if not storage.is_committed(job.folder / work.shard)]


def take_from_neighbours(folder: pathlib.Path, kind: str, wanted: Mapping[str, str]) -> None:
    """Takes those shards, if they are sound, that folders beside this one have.

    `wanted` are names of shards by their recipes.
    """
    left = dict(wanted)
    for made in sorted(folder.parent.glob(f"*/{_SHARD}*")):
        recipe = storage.made_from(made) if made.parent != folder else None
        if recipe in left:
            with contextlib.suppress(ArtefactError):
                storage.check(made, kind=kind, fingerprint=recipe)
                storage.link(made, folder / left.pop(recipe))
