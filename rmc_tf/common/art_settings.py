"""ART's settings file, which ART 1.20 writes when it is first imported, by `open` alone.

A second process that imports ART meanwhile finds the file empty and ends in a NameError. So the
file is put in its place before, whole, with what ART itself would write.
"""

import json
import pathlib
import tempfile


def settle() -> None:
    """Writes ART's settings, unless they are there; a home that can't be written to stays."""
    path = pathlib.Path.home() / ".art" / "config.json"
    try:
        if path.exists() and path.stat().st_size:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as own:  # others may write it, too
            beside = pathlib.Path(own) / path.name
            beside.write_text(json.dumps({"ART_DATA_PATH": str(path.with_name("data"))}), "utf-8")
            beside.replace(path)
    except OSError:
        pass  # ART takes another place then, and says so
