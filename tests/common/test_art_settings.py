"""ART is imported by several processes at once, in a home where it never was."""

import os
import pathlib
import subprocess
import sys

import pytest

from rmc_tf.common import art_settings


def test_a_home_gets_the_settings_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    art_settings.settle()
    path = tmp_path / ".art" / "config.json"
    first = path.stat().st_mtime_ns, path.read_text()
    art_settings.settle()
    assert (path.stat().st_mtime_ns, path.read_text()) == first
    assert [each.name for each in path.parent.iterdir()] == ["config.json"]


def test_a_file_that_another_process_has_just_begun_is_replaced(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".art" / "config.json"
    path.parent.mkdir()
    path.touch()
    art_settings.settle()
    pytest.importorskip("art")
    script = "import art.config; print(art.config.ART_DATA_PATH)"
    found = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(tmp_path / ".art" / "data")
