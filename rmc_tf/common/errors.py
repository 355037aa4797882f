"""The one exception that a user is meant to see.

What a user can mend (a flag, a file, an image, a full disk) is raised as a
`UserError`. Its text is a single line: the value, where it came from, and the
remedy. The command line prints that line and exits with status 2. Any other
exception is a bug of ours, and keeps its traceback.
"""

import difflib
import errno
from collections.abc import Iterable

DISK_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EEXIST,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
)
"""Numbers of the `OSError`s that a user mends by more room, a permission, or another path."""


class UserError(ValueError):
    """A mistake that its reader can mend; `str(error)` is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class ArtefactError(UserError):
    """A file or folder of a work directory that is truncated, altered or foreign."""


def first_line(error: BaseException) -> str:
    """Returns type and first line of an exception, to be quoted in a line of ours."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Returns the remedy for a name that isn't known: the nearest that is, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(names)}"
