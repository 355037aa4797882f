"""What the tests write goes with their session."""

import os
import pathlib
import tempfile

import tensorflow as tf


def _if_positive(x: tf.Tensor) -> tf.Tensor:
    if x > 0:  # noqa: SIM108
        x = 2 * x
    else:
        x = -x
    return x


def test_autograph_writes_into_the_folder_of_the_session_which_processes_inherit() -> None:
    session, usual = (pathlib.Path(os.environ[n]) for n in ("TMPDIR", "PYTEST_DEBUG_TEMPROOT"))
    assert pathlib.Path(tempfile.gettempdir()) == session
    assert session.parent == usual and session.name.startswith("rmc_tf_")
    before = set(session.glob("__autograph_generated_file*.py"))
    assert float(tf.function(_if_positive)(tf.constant(-1.0))) == 1
    assert set(session.glob("__autograph_generated_file*.py")) > before
