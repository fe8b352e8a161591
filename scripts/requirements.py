"""Print what pyproject.toml asks for: its dependencies, its extras and its build requirements, one per line.

The labextension must be built before the package can be installed, and building needs JupyterLab; so the requirements
are installed first, by name.
"""

import re
import sys
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib  # type: ignore[no-redef]

data = tomllib.loads(Path(__file__).parent.with_name("pyproject.toml").read_text())
# hatchling asks for editables only while it builds an editable install, which happens here without isolation.
found = ["editables>=0.5", *data["build-system"]["requires"], *data["project"]["dependencies"]]
for extra in data["project"]["optional-dependencies"].values():
    found += extra
sys.stdout.write("\n".join(dict.fromkeys(re.sub(r"\s", "", r) for r in found)) + "\n")
