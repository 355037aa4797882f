"""What an audit has computed is found again, as far as it had come."""

import pathlib

import numpy as np
import pytest

from rmc_tf.audit.kept import Arrays, Kept, KeptOnDisk


class Worker:
    """Makes pieces, remembers which, and stops before one of them."""

    def __init__(self, stops_at: int = 1_000) -> None:
        self.made: list[int] = []
        self._stops_at = stops_at

    def __call__(self, number: int) -> Arrays:
        if number == self._stops_at:
            raise KeyboardInterrupt
        self.made.append(number)
        return {"square": np.array([number, number**2])}


def on_disk(folder: pathlib.Path, of: str = "rmc") -> Kept:
    return KeptOnDisk(folder, of, seconds=0.0)


def test_work_that_was_stopped_goes_on_with_the_piece_that_it_stopped_at(
    tmp_path: pathlib.Path,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        on_disk(tmp_path).each("squares", [1], 5, Worker(stops_at=3))
    rest = Worker()
    found = on_disk(tmp_path).each("squares", [1], 5, rest)
    assert rest.made == [3, 4]
    assert found["square"].tolist() == [[i, i * i] for i in range(5)]
    assert found["seconds"].shape == (5,)
    unneeded = Worker()
    again = on_disk(tmp_path).each("squares", [1], 5, unneeded)
    assert unneeded.made == [] and (again["seconds"] == found["seconds"]).all()


def test_what_was_made_from_something_else_is_made_anew(tmp_path: pathlib.Path) -> None:
    on_disk(tmp_path).each("squares", [1], 2, Worker())
    others = [(on_disk(tmp_path), [2]), (on_disk(tmp_path, of="none"), [1]), (Kept(), [1])]
    for kept, made_from in others:
        worker = Worker()
        kept.each("squares", made_from, 2, worker)
        assert worker.made == [0, 1]


def test_nothing_is_made_of_no_points(tmp_path: pathlib.Path) -> None:
    assert on_disk(tmp_path).each("squares", [1], 0, Worker()) == {}
