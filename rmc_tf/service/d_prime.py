"""What of a served defence is its D': which generation is searched, and what adds attacks to it.

A defence that searches nothing has none of it, and an operator who asks for it is told so.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rmc_tf.augmented_set.engine import Engine
from rmc_tf.common.errors import UserError
from rmc_tf.defences.base import State
from rmc_tf.defences.rmc import RMC
from rmc_tf.service.additions import Additions
from rmc_tf.service.generations import Generations, searching


class DPrime:
    """The D' of one service, if there is any.

    Attributes:
      generations: those of what is searched; None: nothing is.
    """

    def __init__(
        self,
        defence: RMC | None,
        folder: pathlib.Path,
        engine: Engine,
        change_over: Callable[[Callable[[], None]], None],
        say: Callable[[str], object],
    ) -> None:
        """Has the defence search the generation that the folder of states names.

        Args:
          defence: what searches; None: nothing does.
          folder: of the states.
          engine: who crafts the examples of an attack that is added.
          change_over: has the adaptation thread call something between two queries.
          say: is told, in lines, what was added.

        Raises:
          UserError: the generations are of another bundle, or damaged.
        """
        self._defence = defence
        self.generations: Generations | None = None
        self._additions: Additions | None = None
        if defence is None:
            return
        self.generations = Generations(folder, defence)
        if self.generations.present.number:
            searching(defence, self.generations.present)()
        self._additions = Additions(self.generations, defence, engine, change_over, say)

    @property
    def additions(self) -> Additions:
        """What adds attacks, and takes them out.

        Raises:
          UserError: nothing is searched.
        """
        if self._additions is None:
            raise UserError(
                "the defence that is served searches no D', so no attack can be added to it; "
                "serve one that does, as by --config.service.defence=rmc"
            )
        return self._additions

    @property
    def attacks(self) -> list[dict[str, Any]]:
        """The attacks that D' has examples of, and what is, or was, to be done; see `Additions`."""
        return [] if self._additions is None else self._additions.status

    @property
    def counts(self) -> Mapping[str, int]:
        """How many rows are of each source; empty where nothing is searched."""
        if self.generations is None:
            return {}
        rows = self.generations.present.rows
        counts = np.bincount(rows.sources, minlength=len(rows.source_names)).tolist()
        return {name: n for name, n in zip(rows.source_names, counts, strict=True) if n}

    @property
    def status(self) -> dict[str, Any]:
        """What an operator wants to know of it, as JSON can hold it."""
        if self.generations is None:
            return {}
        present = self.generations.present
        return {
            "rows": len(present.rows),
            "indexed_rows": present.over.report.rows,
            "features": len(present.over.features),
            "generation": present.number,
        }

    def __str__(self) -> str:
        """What a service says of it when it begins; empty where nothing is searched."""
        if self.generations is None:
            return ""
        left = len(self.generations.wanted)
        goes_on = f"; {left} attacks are still to be added or taken out" if left else ""
        return ", D' is " + ", ".join(f"{n:,} {name}" for name, n in self.counts.items()) + goes_on

    def over_present(self, state: State) -> State:
        """Returns a state over any generation of this D' as one over the present."""
        if self._defence is None or self.generations is None:
            return state
        numbers = self.generations.numbers(state)
        return state if numbers is None else self._defence.over_this(state, numbers)

    def start(self) -> None:
        """Starts the thread that adds."""
        if self._additions is not None:
            self._additions.start()

    def stop(self, seconds: float) -> bool:
        """Ends that thread, what is half done to be gone on with; returns whether it has ended."""
        return self._additions is None or self._additions.stop(seconds)
