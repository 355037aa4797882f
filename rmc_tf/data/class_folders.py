"""Which files below a folder are images, and of which class: a folder in it is a class.

What phones, cameras, Windows and macOS leave beside images is no class and no image.
"""

import os
import pathlib
import re
import unicodedata
from collections.abc import Iterator, Sequence

from rmc_tf.common.errors import UserError
from rmc_tf.config.network import ReadLike

ENDINGS: dict[ReadLike, tuple[str, ...]] = {
    "viewer": (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
        *(".avif", ".ppm", ".pgm"),
    ),
    "keras": (".bmp", ".gif", ".jpeg", ".jpg", ".png"),  # its ALLOWLIST_FORMATS
}
"""How the names of images end, in capitals or not."""

_LEFT_BY_SYSTEMS = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "$recycle.bin"),
    *("system volume information", "lost+found", "@eadir", "#recycle", "@recycle", "__pycache__"),
}
"""In small letters. Whatever begins with a dot is hidden, too."""


class ClassFolders:
    """What lies below the folder of a split.

    Attributes:
      folder: that of the split.
      images: class to the paths of its images below the folder, sorted; nested ones, too.
      loose: images beside the classes, which have no label.
      others: files that don't end as images do.
      hidden: files and folders.
    """

    def __init__(self, folder: pathlib.Path, read_like: ReadLike) -> None:
        """Lists it.

        Raises:
          UserError: a folder can't be read, or a link leads nowhere.
        """
        self.folder = folder
        self.images: dict[str, list[str]] = {}
        self.loose: list[str] = []
        self.others: list[str] = []
        self.hidden: list[str] = []
        self._endings = ENDINGS[read_like]
        for entry in self._entries(folder):
            if entry.is_dir():
                name = unicodedata.normalize("NFC", entry.name)  # macOS writes é as two
                self.images.setdefault(name, []).extend(self._below(entry.path, ()))
            elif self._is_image(entry):
                self.loose.append(entry.name)
        self.images = {name: sorted(self.images[name]) for name in sorted(self.images)}

    def _below(self, folder: str, above: tuple[str, ...]) -> Iterator[str]:
        here = os.path.realpath(folder)
        if here in above:
            return  # a link to a folder that it lies in
        for entry in self._entries(folder):
            if entry.is_dir():
                yield from self._below(entry.path, (*above, here))
            elif self._is_image(entry):
                yield self._path(entry)

    def _entries(self, folder: str | pathlib.Path) -> Iterator[os.DirEntry[str]]:
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise UserError(f"{folder}: {error.strerror}; mend its mode, or remove it") from None
        for entry in entries:
            if entry.name.encode(errors="replace").decode() != entry.name:
                raise UserError(f"{entry.path!a}: its name isn't in UTF-8; rename it")
            if entry.name.startswith(".") or entry.name.lower() in _LEFT_BY_SYSTEMS:
                self.hidden.append(self._path(entry))
            elif entry.is_symlink() and not pathlib.Path(entry.path).exists():
                raise UserError(f"{entry.path}: a link that leads nowhere; mend or remove it")
            else:
                yield entry

    def _is_image(self, entry: os.DirEntry[str]) -> bool:
        is_image = entry.is_file() and entry.name.lower().endswith(self._endings)
        if not is_image:
            self.others.append(self._path(entry))
        return is_image

    def _path(self, entry: os.DirEntry[str]) -> str:
        return entry.path.removeprefix(f"{self.folder}/")

    def left_out(self) -> list[str]:
        """Returns a line on what was left out, if anything was."""
        kinds = (
            (self.loose, "beside the folders of classes"),
            (self.others, "whose names don't end as images do"),
            (self.hidden, "hidden or left by a system"),
        )
        told = [
            f"{len(paths):,} {kind} ({first_of(sorted(paths))})" for paths, kind in kinds if paths
        ]
        return [f"{self.folder.name}: left out {'; '.join(told)}"] if told else []


def first_of(names: Sequence[str], most: int = 3) -> str:
    """Returns the first few names, and dots for the others."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def by_number(names: Sequence[str]) -> list[str]:
    """Returns classes in the order of their numbers, if a number is all that tells them apart.

    So 2 and class_2 come before 10 and class_10. Others are sorted as text.
    """
    try:
        return sorted(names, key=lambda name: (int(name), name))
    except ValueError:
        parts = [re.fullmatch(r"(\D*)(\d+)(.*)", name) for name in names]
    numbers = {part[0]: int(part[2]) for part in parts if part}
    if len(numbers) < len(names) or len({part.group(1, 3) for part in parts if part}) > 1:
        return sorted(names)
    return sorted(names, key=lambda name: (numbers[name], name))
