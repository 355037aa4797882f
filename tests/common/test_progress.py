"""Long work tells how far it is: by a bar on a terminal, by plain lines elsewhere."""

import io
import os
import pty
import re
import select
import termios
from collections.abc import Iterator
from typing import TextIO

import pytest

from rmc_tf.common.progress import Overall, progress


class Clock:
    """A time that passes only where the work takes some."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time that tqdm reads."""
    time = Clock()
    monkeypatch.setattr("tqdm.std.time", time)
    return time


@pytest.fixture
def terminal() -> Iterator[tuple[TextIO, int]]:
    """A pseudo-terminal: what a program writes to, and what its reader reads from."""
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, 80))
    with open(writer, "w") as stream:  # noqa: PTH123
        yield stream, reader
    os.close(reader)


def work(
    stream: TextIO, clock: Clock, units: int, seconds: float, *, done: int = 0, total: int = 100
) -> None:
    """Does some units of work, each of which takes some seconds."""
    with progress("PREPARE", total, done, "image", stream=stream) as advance:
        for _ in range(units):
            clock.now += seconds
            advance(1)


def test_elsewhere_lines_are_plain(clock: Clock) -> None:
    stream = io.StringIO()
    work(stream, clock, 100, 1.0)
    assert re.fullmatch(r"(PREPARE: [ -~]+\n)+", stream.getvalue())


def test_elsewhere_a_line_tells_units_share_rate_and_time_left(clock: Clock) -> None:
    stream = io.StringIO()
    work(stream, clock, 50, 0.5)
    half = stream.getvalue().splitlines()[-1]
    assert re.fullmatch(r"PREPARE: 50 of 100 images \(50 %\), +2.00 ?images/s, 00:25 left", half)


def test_elsewhere_a_line_comes_every_few_seconds_and_one_at_the_end(clock: Clock) -> None:
    stream = io.StringIO()
    work(stream, clock, 100, 0.25)
    units = [int(found) for found in re.findall(r"(\d+) of 100", stream.getvalue())]
    assert units == [20, 40, 60, 80, 100, 100]


def test_elsewhere_work_that_slows_down_is_told_of_as_before(clock: Clock) -> None:
    stream = io.StringIO()
    with progress("PREPARE", 1000, stream=stream) as advance:
        for unit in range(103):
            clock.now += 0.1 if unit < 100 else 6.0
            advance(1)
    units = [int(found) for found in re.findall(r"(\d+) of 1000", stream.getvalue())]
    assert {101, 102, 103} <= set(units)


def test_elsewhere_work_within_one_interval_says_nothing(clock: Clock) -> None:
    stream = io.StringIO()
    work(stream, clock, 4, 1.0, total=4)
    assert stream.getvalue() == ""


def test_units_of_an_earlier_run_count_for_the_share_but_not_for_the_rate(clock: Clock) -> None:
    stream = io.StringIO()
    work(stream, clock, 20, 1.0, done=60)
    last = stream.getvalue().splitlines()[-1]
    assert re.search(r" 80 of 100 images \(80 %\), +1.00 ?images/s, 00:20 left$", last)


def test_elsewhere_lines_end_with_the_work_that_fails(clock: Clock) -> None:
    stream = io.StringIO()
    with pytest.raises(OSError, match="disk"), progress("x", 9, stream=stream) as advance:
        clock.now += 7.0
        advance(1)
        raise OSError("disk full")
    assert stream.getvalue().endswith("left\n")


def test_by_default_lines_go_to_standard_error(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("x", 2) as advance:
        clock.now += 9.0
        advance(1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("x: 1 of 2 its")


def test_a_terminal_shows_one_bar_that_is_drawn_over(
    clock: Clock, terminal: tuple[TextIO, int]
) -> None:
    stream, reader = terminal
    work(stream, clock, 10, 1.0, total=10)
    stream.flush()
    received = b""
    while b"\n" not in received and select.select([reader], [], [], 30)[0]:
        received += os.read(reader, 1 << 16)  # what has come by now
    drawn = received.decode()
    bars = re.findall(r"\rPREPARE: +(\d+)%\|", drawn)
    assert [int(share) for share in bars] == [*range(0, 101, 10), 100]
    assert drawn.count("\n") == 1  # at the end
    assert re.search(r"100%\|█+\| 10/10 \[.*1\.0\d images/s", drawn)


def last_line(stream: io.StringIO) -> str:
    return stream.getvalue().strip().splitlines()[-1]


def test_the_display_of_all_reckons_by_what_each_piece_costs(clock: Clock) -> None:
    stream = io.StringIO()
    with Overall("reproduce", expected=100, pieces=3, stream=stream) as overall:
        clock.now += 60
        overall.done(25)
        assert last_line(stream) == (
            "reproduce, 1 of 3 cells: 25 % of the work, 03:00 left, 1.0 cells/min"
        )
        clock.now += 120
        overall.done(50)
        assert "2 of 3 cells: 75 % of the work, 01:00 left" in last_line(stream)


def test_what_an_earlier_run_has_done_counts_as_done_and_not_for_the_rate(clock: Clock) -> None:
    stream = io.StringIO()
    with Overall("reproduce", expected=100, pieces=4, stream=stream) as overall:
        clock.now += 6
        overall.done(50, earlier=True)
        clock.now += 54
        overall.done(10)
        assert "2 of 4 cells: 60 % of the work, 04:00 left, 1.0 cells/min" in last_line(stream)
        overall.plan(-20, -1)  # less than was thought
        clock.now += 60
        overall.done(10)
        assert "3 of 3 cells: 88 % of the work, 01:00 left" in last_line(stream)


def test_what_is_expected_is_believed_before_much_is_seen(clock: Clock) -> None:
    stream = io.StringIO()
    with Overall("reproduce", expected=1000, pieces=9, trust=60, stream=stream) as overall:
        clock.now += 30
        overall.done(1)  # thirty times slower than was thought: not all will be
        left = re.search(r"(\d+):(\d+) left", last_line(stream))
        assert left is not None
        assert int(999 * 90 / 61) == 60 * int(left[1]) + int(left[2])


def test_a_terminal_is_told_from_the_first_moment_what_is_expected(
    clock: Clock, terminal: tuple[TextIO, int]
) -> None:
    stream, reader = terminal
    with Overall("reproduce", expected=1500, pieces=9, trust=60, stream=stream):
        stream.flush()
        drawn = ""
        while " left" not in drawn:  # a terminal hands over what is drawn in pieces
            assert select.select([reader], [], [], 30)[0], drawn
            drawn += os.read(reader, 1 << 16).decode(errors="replace")
    assert "reproduce, 0 of 9 cells: 0 % of the work" in drawn
    assert "after 00:00, about 25:00 left" in drawn


def test_what_is_found_again_leaves_less_to_expect(clock: Clock) -> None:
    stream = io.StringIO()
    with Overall("reproduce", expected=1200, pieces=3, trust=60, stream=stream) as overall:
        clock.now += 6
        overall.done(600, earlier=True)
        assert last_line(stream).endswith("50 % of the work, about 10:00 left")
        clock.now += 6
        overall.done(600, earlier=True)
        assert last_line(stream).endswith("100 % of the work, about 00:00 left")


def test_the_bar_of_a_piece_leaves_plain_lines_below_the_display_of_all(clock: Clock) -> None:
    stream = io.StringIO()
    with Overall("reproduce", expected=2, pieces=2, stream=stream) as overall:
        for _ in range(2):
            work(stream, clock, 100, 1.0)
            overall.done(1)
    assert re.fullmatch(r"((PREPARE: |reproduce, )[ -~]+\n)+", stream.getvalue())
