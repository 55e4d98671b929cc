"""Keeps files of the current directory from steering the libraries that look for them there."""

import os
from contextlib import chdir

from pir.errors import UserError

NUMBA, MATPLOTLIB = ".numba_config.yaml", "matplotlibrc"


def shut_out() -> None:
    """Imports a library elsewhere if its file of settings lies in the current directory.

    Numba reads the file at every compilation, and with it where its cache lies, which it unpickles;
    matplotlib reads it once. The user's own files, elsewhere, hold as before.

    Raises:
        UserError: if the current directory cannot be left and entered again.
    """
    found = [name for name in (NUMBA, MATPLOTLIB) if os.path.lexists(name)]
    if not found:
        return
    try:
        with chdir(os.path.dirname(os.path.abspath(__file__))):
            if NUMBA in found:
                import numba.core.config

                numba.core.config._config_fname = ""
            if MATPLOTLIB in found:
                import matplotlib  # noqa: F401
    except OSError as error:
        raise UserError(f"the current directory holds {' and '.join(found)}: {error}") from error
