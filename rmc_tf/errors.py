"""The one exception that a user is meant to see.

Anything a user can mend (a flag, a file, an image, a full disk) is raised as a
`UserError` whose text is a single line: the value, where it came from, and the
remedy. The command line prints that line and exits with status 2; everything
else that escapes is a bug of ours and keeps its traceback.
"""


class UserError(ValueError):
    """A mistake that its reader can mend; `str(error)` is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class ArtefactError(UserError):
    """A file or folder of a work directory that is truncated, altered or foreign."""
