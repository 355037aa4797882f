"""D' as RMC⁺ changes it (Algorithm 2, line 6): the base, and the rows that have changed since.

The base is an artefact that other defences share, so it is only read. What
changes together is changed by one call here: a row's pixels, its features by
the static θ*, and its place in the index. `rmc_tf.augmented_set.changed_rows` says how the
first two survive a kill; the index follows from them when they are opened.
"""

import pathlib
from collections.abc import Mapping

import numpy as np

from rmc_tf.augmented_set.changed_rows import ChangedRows
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet, SearchedSet
from rmc_tf.common.errors import UserError
from rmc_tf.search.index import FeatureIndex

_OF_THE_INDEX = tuple(
    (f"index_{which}_rows", (f"index_{which}_features",)) for which in ("built", "moved")
)
"""Of a snapshot: the names of row numbers, and of what belongs to these rows."""


class RefreshedSet(SearchedSet):
    """The base with its changed rows, read as `AugmentedSet` is.

    Pixels change; labels, sources, origins and targets are those of the base.

    Attributes:
      base: D' as PREPARE left it.
      index: over the rows as they are now.
    """

    def __init__(
        self, base: AugmentedSet, index: FeatureIndex, folder: str | pathlib.Path | None = None
    ) -> None:
        """Opens what is in the folder, or begins with the base as it is.

        Args:
          base: D'.
          index: over the features of the base by the static θ*; from here on this set's own,
            since it is changed in place.
          folder: where changes outlive a kill, of one D' and its features. A tree that is built
            over the base gets them then, whenever it was last rebalanced. None: they are in
            memory only.

        Raises:
          UserError: the index is of other rows, or another process has the folder open.
          ArtefactError: the folder holds the changes of another D', or is damaged.
        """
        if index.report.rows != len(base):
            raise UserError(
                f"the index holds {index.report.rows} rows, D' {len(base)}; "
                "build it over the features of this D'"
            )
        self.base, self.index = base, index
        self.labels, self.sources = base.labels, base.sources
        self.origins, self.targets = base.origins, base.targets
        self.image_shape, self.pixel_type = base.image_shape, base.pixel_type
        self.folder, self.fingerprint = base.folder, base.fingerprint
        images = "images", base.pixel_type, base.image_shape
        features = "features", np.float32, (index.report.dimensions,)
        self._changed = ChangedRows(
            len(base),
            np.dtype([images, features]),
            None if folder is None else pathlib.Path(folder),
            {} if folder is None else {"base": base.fingerprint, "index": index.fingerprint()},
        )
        # The state that this is in, where it is known. An index is rebalanced after updates only.
        self._put: dict[str, np.ndarray] = {}
        self._restoring: Mapping[str, np.ndarray] | None = None  # and an error came in between
        self._to_index(self._changed.rows)  # also those of an update that a kill cut short

    @property
    def changed_rows(self) -> np.ndarray:
        """The numbers of the rows that aren't the base's, [n] int64, in order."""
        return self._changed.rows

    def stored_images(self, numbers: np.ndarray) -> np.ndarray:
        """See `SearchedSet`; the pixels of rows as they are now."""
        changed = self._changed.have_changed(numbers)
        images = np.empty((len(numbers), *self.image_shape), self.pixel_type)
        images[~changed] = self.base.stored_images(numbers[~changed])
        images[changed] = self._changed.values["images"][numbers[changed]]
        return images

    def update(self, rows: np.ndarray, images: np.ndarray, features: np.ndarray) -> None:
        """Line 6: changes adversarial rows ([n] int64, each once), and their places in the index.

        Their new images [n, H, W, C] are in the stored form of the base, with features [n, d]
        float32 by the static θ*.

        Raises:
          UserError: a row of D, images in another form, or features that are not finite or of
            another size; nothing has changed then.
          OSError: the disk is full; the update is ended by the next one, or when the folder is
            opened again, unless nothing has changed yet.
        """
        benign = self.sources[rows] == 0
        if benign.any():
            raise UserError(f"row {rows[np.argmax(benign)]} is of D, which doesn't change")
        if (images.dtype, images.shape[1:]) != (self.pixel_type, self.image_shape):
            raise UserError(
                f"images are {images.dtype} {list(images.shape[1:])}, those of D' "
                f"{self.pixel_type} {list(self.image_shape)}; bring them into its form"
            )
        self.index.check(rows, features)
        if self._restoring is not None:
            self.restore(self._restoring)
        self._put = {}
        self._to_index(self._changed.finish())
        self._changed.update(rows, {"images": images, "features": features})
        self._to_index(rows)

    def over_this(
        self, state: Mapping[str, np.ndarray], numbers: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Returns a snapshot of another set as one of this, where rows have other numbers.

        `numbers` [N'] of the other; −1: the row isn't here.
        """
        found: dict[str, np.ndarray] = {}
        parts = (("rows", ("images", "features")), *_OF_THE_INDEX)
        for rows, values in parts:
            here = numbers[state[rows]]
            order = np.argsort(here, kind="stable")[np.count_nonzero(here < 0) :]
            found[rows] = here[order]
            found |= {name: state[name][order] for name in values}
        return found

    def settled(self) -> None:
        """Waits until updates that are being flushed to the disk are there.

        Raises:
          OSError: they couldn't be; the next update writes them again.
        """
        self._changed.settled()

    def snapshot(self) -> dict[str, np.ndarray]:
        """Returns the changed rows and the index's state, a size in proportion to their number."""
        rows = self.changed_rows
        state = {"rows": rows}
        state |= {name: np.array(values[rows]) for name, values in self._changed.values.items()}
        return state | {f"index_{n}": array for n, array in self.index.snapshot().items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes back to what `snapshot` returned; rows that hadn't changed are the base's again.

        Where nothing has changed since the last time with the same arrays, which nobody changes,
        nothing is done: many points are answered from one state (`histories.Standing`).

        Raises:
          UserError: the state is of another D'; nothing has changed then.
        """
        if self._is_in(state):
            return
        self.check(state)
        self._put, self._restoring = {}, state
        self._to_index(self._changed.finish())
        put_back = np.setdiff1d(self.changed_rows, state["rows"])
        values = {name: state[name] for name in self._changed.values}
        self._changed.update(state["rows"], values, put_back)
        prefix = "index_"
        self.index.restore(
            {n.removeprefix(prefix): a for n, a in state.items() if n.startswith(prefix)}
        )
        self._put, self._restoring = dict(state), None

    def check(self, state: Mapping[str, np.ndarray]) -> None:
        """Refuses a state that isn't of this D'.

        Raises:
          UserError: an array is missing, or of another shape, type or range.
        """
        if self._is_in(state):
            return
        mine = {name: (array.shape[1:], array.dtype) for name, array in self.snapshot().items()}
        if {name: (array.shape[1:], array.dtype) for name, array in state.items()} != mine:
            raise UserError(f"this state is of another D' than {self.base.folder}")
        rows = state["rows"]
        lengths = [len(state[name]) for name in ("rows", *self._changed.values)]
        if len(set(lengths)) > 1:
            raise UserError(f"this state has {lengths} rows, images and features; it is damaged")
        if rows.size and not (rows.min() >= 0 and rows.max() < len(self)):
            raise UserError(f"this state is of a D' of more rows than {self.base.folder}")

    def _is_in(self, state: Mapping[str, np.ndarray]) -> bool:
        """Whether these are the arrays of the last `restore`, and nothing has changed since."""
        same = self._put.keys() == state.keys()
        return same and all(self._put[name] is array for name, array in state.items())

    def _to_index(self, rows: np.ndarray) -> None:
        """Moves rows in the index to where their features are."""
        if len(rows):
            self.index.update(rows, self._changed.values["features"][rows])


def base_of(rows: SearchedSet) -> AugmentedSet:
    """Returns D' as it was made; what RMC⁺ has changed since is in its state.

    Raises:
      UserError: it was never on disk.
    """
    base = rows.base if isinstance(rows, RefreshedSet) else rows
    if not isinstance(base, AugmentedSet):
        raise UserError(
            f"{rows.folder}: rows in memory, where such as prepare(…) left are needed; make the "
            "defence of these, with FeatureIndex(extract(…).features, …)"
        )
    return base
