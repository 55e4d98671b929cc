"""Policy-improvement reasoners: small recursive networks whose iterations improve a policy."""

from pathlib import Path as _Path

__version__ = "0.1.0"

# In a source checkout the folders envs/, configs/ and analysis/ lie beside this package, an
# installed wheel holds them inside it; they import as pir.envs, pir.configs and pir.analysis.
_root = _Path(__file__).resolve().parent.parent
if (_root / "envs" / "__init__.py").is_file() and (_root / "pyproject.toml").is_file():
    __path__.append(str(_root))
