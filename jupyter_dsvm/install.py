"""``jupyter dsvm kernelspec install``: kernelspecs of this server that start a kernel on a machine directly.

A notebook with an ordinary kernelspec moves by itself; these are for what starts kernels without asking anybody:
papermill, nbclient, consoles, and the kernel picker.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager

from .errors import ConfigurationError, KernelStartError
from .kernels.kernelspecs import RemoteSpec, choose, installed_name, installed_spec
from .models import Compute, Shape


@dataclass(frozen=True)
class Installed(Shape):
    name: str
    display_name: str
    path: str


def install_kernelspecs(
    compute: Compute, specs: Sequence[RemoteSpec], wanted: str | None, prefix: str | None
) -> list[Installed]:
    """For all of ``specs``, or the one that is ``wanted``; under ``prefix``, or in the user's folder. Replaces older ones."""
    if wanted:
        specs = [choose(specs, machine=compute.name, language="", wanted=wanted)]
    if not specs:
        raise KernelStartError(
            f"{compute.name} has no kernels.", advice="Install one there (for Python: pip install ipykernel)."
        )
    manager = KernelSpecManager()
    made = []
    for spec in specs:
        name = installed_name(compute.name, spec.name)
        content = installed_spec(compute.id, compute.name, spec)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "kernel.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            try:
                path = manager.install_kernel_spec(folder, name, user=prefix is None, prefix=prefix)
            except OSError as e:
                raise ConfigurationError(
                    f"The kernelspec {name} cannot be written: {e}.",
                    advice="Choose another place with --user, --sys-prefix or --prefix.",
                ) from e
        # The file is copied with the mode of the temporary folder, which nobody else may enter.
        Path(path).chmod(0o755)
        made.append(Installed(name, content["display_name"], path))
    return made
