"""Text is read and written in UTF-8 whatever the locale: every such call names its encoding."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ("rmc_tf", "configs", "tools")
FILES = [ROOT / "setup.py", *(file for name in FOLDERS for file in (ROOT / name).rglob("*.py"))]


def _leaves_it_to_the_locale(call: ast.Call) -> bool:
    """Says whether a call reads or writes text and doesn't name its encoding."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    first = call.args[0] if call.args else named.get("mode", ast.Constant("r"))
    mode = first.value if isinstance(first, ast.Constant) else ""
    if "encoding" in named:
        return False
    if name in ("read_text", "write_text"):
        return len(call.args) < ("read_text", "write_text").index(name) + 1
    if name == "open" and isinstance(call.func, ast.Attribute):  # of a path: its mode comes first
        return isinstance(mode, str) and bool(re.fullmatch("[rwax+t]+", mode))
    return name == "open" or not {"text", "universal_newlines"}.isdisjoint(named)


def test_every_text_file_and_pipe_has_an_encoding() -> None:
    assert len(FILES) > 100
    found = []
    for file in FILES:
        calls = [n for n in ast.walk(ast.parse(file.read_bytes())) if isinstance(n, ast.Call)]
        found += [f"{file}:{call.lineno}" for call in calls if _leaves_it_to_the_locale(call)]
    assert not found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("path.read_text()", True),
        ("path.read_text('utf-8')", False),
        ("path.write_text(text)", True),
        ("path.write_text(text, encoding='utf-8')", False),
        ("path.open()", True),
        ("path.open('w')", True),
        ("path.open('wb')", False),
        ("AugmentedSet.open(folder)", False),
        ("subprocess.run(command, text=True)", True),
        ("subprocess.run(command, text=True, encoding='utf-8')", False),
    ],
)
def test_the_check_sees_what_it_is_for(code: str, found: bool) -> None:
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert _leaves_it_to_the_locale(call) is found
