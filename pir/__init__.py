"""Policy-improvement reasoners: small recursive networks whose iterations improve a policy."""

import os as _os
import sys as _sys

__version__ = "0.1.0"

# `python -m pir` puts the current directory before all libraries. It may hold anything, a yaml.py
# say, so it goes before any of them is imported; this package has been found by then.
if _sys.argv[:1] == ["-m"] and not _sys.flags.safe_path:
    _words = [word for word in _sys.orig_argv if word.split(".")[0] in ("-mpir", "pir")]
    if _words:
        del _sys.path[0]

# In a source checkout the folders envs/, configs/ and analysis/ lie beside this package, an
# installed wheel holds them inside it; they import as pir.envs, pir.configs and pir.analysis.
_root = _os.path.dirname(_os.path.dirname(_os.path.realpath(__file__)))
_marks = (_os.path.join("envs", "__init__.py"), "pyproject.toml")
if all(_os.path.isfile(_os.path.join(_root, _mark)) for _mark in _marks):
    __path__.append(_root)
