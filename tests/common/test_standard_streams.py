"""Standard output and error may lose their readers, or lack a character: the work goes on."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
WORK = """
import pathlib, sys
from rmc_tf.common import progress, standard_streams
with standard_streams.outlasting():
    for number in range(3000):
        print(f"cell {number}: 94.6–99.8 %", flush=True)
    progress._LINE_SECONDS = 0.0
    with progress.progress("work", 500) as advance:
        for _ in range(500):
            advance(1)
    pathlib.Path(sys.argv[1]).write_text("all done", encoding="utf-8")
    sys.stdout.write("the last word, which nobody flushes")
sys.exit(7)
"""


def _run(
    done: pathlib.Path, gone: str = "", **environment: str
) -> tuple[subprocess.CompletedProcess[bytes], bool]:
    """Does some work in a process; of "stdout" or "stderr" the reader is gone before it begins."""
    read, write = os.pipe()
    os.close(read)
    ends = {name: write if name == gone else subprocess.PIPE for name in ("stdout", "stderr")}
    try:
        run = subprocess.run(
            [sys.executable, "-c", WORK, str(done)],
            cwd=ROOT,
            env=os.environ | environment,
            check=False,
            **ends,  # type: ignore[call-overload]
        )
    finally:
        os.close(write)
    return run, done.exists()


def test_without_a_reader_the_work_is_done_and_ends_with_its_own_status(
    tmp_path: pathlib.Path,
) -> None:
    run, done = _run(tmp_path / "done", gone="stdout")
    assert (run.returncode, done) == (7, True)
    told = run.stderr.decode().splitlines()
    assert told[0] == "rmc_tf: standard output: Broken pipe; the work goes on without it"
    assert all(line.startswith("work: ") for line in told[1:]), "and is told once"


def test_without_a_logger_of_errors_and_progress_it_is_done_too(tmp_path: pathlib.Path) -> None:
    run, done = _run(tmp_path / "done", gone="stderr")
    assert (run.returncode, done) == (7, True)
    assert len(run.stdout.splitlines()) == 3001


def test_a_process_that_is_started_without_streams_works_too(tmp_path: pathlib.Path) -> None:
    closed = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh"]
    run = subprocess.run(
        [*closed, sys.executable, "-c", WORK, str(tmp_path / "done")], cwd=ROOT, check=False
    )
    assert (run.returncode, (tmp_path / "done").read_text("utf-8")) == (7, "all done")


@pytest.mark.parametrize("encoding", ["ascii", "euc-jp:strict", "utf-8"])
def test_what_an_encoding_lacks_is_a_question_mark_and_no_error(
    tmp_path: pathlib.Path, encoding: str
) -> None:
    run, done = _run(tmp_path / "done", PYTHONIOENCODING=encoding)
    assert (run.returncode, done) == (7, True)
    name = encoding.partition(":")[0]
    assert run.stdout.decode(name).startswith(
        "cell 0: 94.6" + "–".encode(name, "replace").decode(name) + "99.8 %"
    )
