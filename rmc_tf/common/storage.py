"""Durable files: nothing half-written, nothing foreign taken for one's own.

There are two forms. A single file is written beside its place, flushed to the disk,
and renamed over it. An *artefact* is a folder that is made the same way. Its
`done.json` names its kind, the fingerprint of all that made it, and the size and
checksum of each file; it is opened only if all of that still holds.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rmc_tf.common.errors import ArtefactError

MOST_BYTES_TO_HASH = 2**31
"""Of a data set: checksums of more would take many seconds at each start."""
_MARKER = "done.json"
_FORMAT = 3
"""Goes up when the same settings lead to other files, or to other numbers in them: what is stored
in an older format isn't found any more, and is made anew."""


def fingerprint(*parts: Any) -> str:
    """Returns 16 hex digits that change with the format, and with any part that JSON can hold."""
    text = json.dumps([_FORMAT, *parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def checksum(path: pathlib.Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_fingerprint(paths: Sequence[pathlib.Path]) -> str:
    """Returns a fingerprint of stored files: of their checksums, or of the sizes of large ones."""
    sizes = [path.stat().st_size for path in paths]
    if sum(sizes) > MOST_BYTES_TO_HASH:
        return fingerprint(sizes)
    return fingerprint([checksum(path) for path in paths])


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file durably: a reader sees the old content or the new, never a mixture."""
    beside = path.with_name(f".{path.name}.partial")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def flush(path: pathlib.Path) -> None:
    """Waits until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a value as indented JSON, durably."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json(path: pathlib.Path) -> Any:
    """Returns the value of a JSON file.

    Raises:
      ArtefactError: the file is missing, truncated, or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such file; run the stage that writes it") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ArtefactError(f"{path}: truncated or not JSON; delete it and run again") from None


def write_arrays(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays to one `.npz` file, durably."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def read_arrays(
    path: pathlib.Path, remedy: str = "delete it and run again"
) -> dict[str, np.ndarray]:
    """Returns the named arrays of a `.npz` file.

    The remedy is for a file that isn't one.

    Raises:
      ArtefactError: the file is missing, truncated, or of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such file") from None
    except Exception:  # zipfile, zlib, struct and NumPy each raise their own
        raise ArtefactError(f"{path}: truncated or not an .npz file; {remedy}") from None


@contextlib.contextmanager
def committing(
    path: pathlib.Path, *, kind: str, fingerprint: str, details: Mapping[str, Any] | None = None
) -> Iterator[pathlib.Path]:
    """Makes an artefact: yields a folder to fill, and commits it when the block ends well.

    Parents of its path are created. Its details are what a reader should know without opening
    the files.

    Raises:
      ArtefactError: there is something at `path` already.
      OSError: the disk is full; nothing is left of what was begun.
    """
    if path.exists():
        raise ArtefactError(f"{path}: it is there, but not a finished {kind}; delete it")
    beside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        files = sorted(file for file in beside.rglob("*") if file.is_file())
        for file in files:
            flush(file)
        sealed = {
            file.relative_to(beside).as_posix(): {
                "bytes": file.stat().st_size,
                "sha256": checksum(file),
            }
            for file in files
        }
        marker = {"kind": kind, "fingerprint": fingerprint, "details": dict(details or {})}
        write_json(beside / _MARKER, marker | {"files": sealed})
        beside.rename(path)
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)
        if isinstance(error, OSError) and error.errno is None:  # NumPy's, on a full disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def put_in_place(made: pathlib.Path, path: pathlib.Path) -> None:
    """Moves an artefact that was committed elsewhere on the same disk; the first to come stays.

    So several processes can make the same artefact, each in a folder of its own.

    Raises:
      ArtefactError: there is something at `path` that is no artefact.
    """
    try:
        made.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        if not is_committed(path):
            raise ArtefactError(f"{path}: it is there, but not finished; delete it") from None
        shutil.rmtree(made, ignore_errors=True)


def link(made: pathlib.Path, path: pathlib.Path) -> None:
    """Puts an artefact in a second place, too: by hard links, or by copies on another disk.

    Raises:
      OSError: the disk is full; nothing is left of what was begun.
    """
    beside = path.with_name(f".{path.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        for file in sorted(file for file in made.rglob("*") if file.is_file()):
            there = beside / file.relative_to(made)
            there.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, there)
            except OSError:
                shutil.copyfile(file, there)
                flush(there)
        beside.rename(path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def made_from(path: pathlib.Path) -> str | None:
    """Returns the fingerprint of what an artefact says it was made from; None: there is none."""
    try:
        return str(json.loads((path / _MARKER).read_text(encoding="utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_committed(path: pathlib.Path) -> bool:
    """Says whether an artefact was ever committed at `path`; `check` says if it is sound."""
    return (path / _MARKER).exists()


def check(path: pathlib.Path, *, kind: str, fingerprint: str | None = None) -> dict[str, Any]:
    """Verifies an artefact and returns its details.

    Raises:
      ArtefactError: a file is missing, truncated or altered, or the artefact is
        of another kind or was made from something else.
    """
    remedy = f"delete {path} and run again to rebuild it"
    if not is_committed(path):
        raise ArtefactError(f"{path}: not a finished {kind} (it has no {_MARKER}); {remedy}")
    try:
        marker = json.loads((path / _MARKER).read_text(encoding="utf-8"))
        found, made_from = marker["kind"], marker["fingerprint"]
        files = {n: (int(f["bytes"]), str(f["sha256"])) for n, f in marker["files"].items()}
        details = dict(marker["details"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ArtefactError(f"{path / _MARKER}: truncated or not one of ours; {remedy}") from None
    if found != kind:
        raise ArtefactError(f"{path}: expected a {kind}, found a {found!r}; {remedy}")
    if fingerprint is not None and made_from != fingerprint:
        raise ArtefactError(
            f"{path}: this {kind} was made from other settings or data "
            f"(fingerprint {made_from}, expected {fingerprint}); {remedy}"
        )
    for name, (committed, digest) in files.items():
        file = path / name
        if not file.is_file():
            raise ArtefactError(f"{file}: missing; {remedy}")
        size = file.stat().st_size
        if size != committed:
            raise ArtefactError(f"{file}: {size} bytes where {committed} were committed; {remedy}")
        if checksum(file) != digest:
            raise ArtefactError(f"{file}: altered since it was committed; {remedy}")
    return details
