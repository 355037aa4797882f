"""What was appended is found again, whole and in order; what was forgotten isn't."""

import errno
import os
import pathlib

import pytest

from rmc_tf.common.journal import Journal

FIRST, SECOND, THIRD = ([bytes([n]) * 40, b"", bytes([n + 9]) * n] for n in (1, 2, 3))


def found(folder: pathlib.Path) -> list[list[bytes]]:
    return list(Journal(folder).entries())


def test_entries_are_found_in_order_when_the_folder_is_opened_again(tmp_path: pathlib.Path) -> None:
    journal = Journal(tmp_path)
    assert list(journal.entries()) == []
    for entry in (FIRST, SECOND):
        journal.append(entry)
    journal.turn()
    journal.append(THIRD)
    assert found(tmp_path) == list(journal.entries()) == [FIRST, SECOND, THIRD]


def test_entries_of_the_other_file_are_forgotten_and_those_written_since_are_not(
    tmp_path: pathlib.Path,
) -> None:
    journal = Journal(tmp_path)
    journal.append(FIRST)
    journal.append(SECOND)
    journal.turn()
    journal.append(THIRD)
    journal.forget_others()
    assert found(tmp_path) == [THIRD]
    journal.turn()
    like_first = [bytes([7]) * 40, b"", b"7"]
    journal.append(like_first)  # over the first; what was the second is still behind it
    assert found(tmp_path) == [THIRD, like_first]
    journal.forget_all()
    assert found(tmp_path) == []


@pytest.mark.parametrize("all_of_them", [True, False])
def test_what_an_earlier_opening_left_further_on_does_not_come_back(
    tmp_path: pathlib.Path, all_of_them: bool
) -> None:
    journal = Journal(tmp_path)
    for entry in (FIRST, SECOND, THIRD):
        journal.append([part[:1] * 9 for part in entry])  # all of one length
    if all_of_them:
        journal.forget_all()
    else:
        journal.turn()
        journal.forget_others()  # and nothing was appended since
    assert found(tmp_path) == []
    again, anew = Journal(tmp_path), [b"x" * 9, b"", b"y" * 9]
    again.append(anew)
    assert found(tmp_path) == [anew]


@pytest.mark.parametrize("lost", range(1, 200, 7))
def test_an_entry_that_a_kill_cut_off_is_none(tmp_path: pathlib.Path, lost: int) -> None:
    journal = Journal(tmp_path)
    journal.append(FIRST)
    file = tmp_path / "journal_a.bin"
    whole = file.stat().st_size
    journal.append([bytes(150), b"more"])
    assert file.stat().st_size - lost > whole
    os.truncate(file, file.stat().st_size - lost)
    assert found(tmp_path) == [FIRST]


@pytest.mark.parametrize("place", range(3, 93, 11))
def test_an_altered_entry_and_what_follows_it_are_none(tmp_path: pathlib.Path, place: int) -> None:
    journal = Journal(tmp_path)
    for entry in (FIRST, SECOND):
        journal.append(entry)
    file = tmp_path / "journal_a.bin"
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert found(tmp_path) == []


@pytest.mark.parametrize("fails", ["pwrite", "fdatasync"])
def test_an_entry_that_the_disk_has_no_room_for_is_none_and_the_next_takes_its_place(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    journal = Journal(tmp_path)
    journal.append(FIRST)

    real, written = os.pwrite, iter([1, 1, 1, 0])

    def half(file: int, content: bytes, place: int) -> int:
        return real(file, content, place) if next(written, 1) else 0

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match=r"full|space"):
        patch.setattr(os, fails, half if fails == "pwrite" else full)
        journal.append(SECOND)
    assert found(tmp_path) == [FIRST]
    journal.append(THIRD)
    assert found(tmp_path) == [FIRST, THIRD]


def test_an_entry_that_the_system_writes_in_pieces_is_whole(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda file, content, place: real(file, content[:7], place))
        Journal(tmp_path).append(FIRST)
    assert found(tmp_path) == [FIRST]
