"""Libraries that fall back to the CPU on a machine with a GPU: which of a notebook's are looked at, and what is said of them. Pure.

``advising`` asks the machine (``kernels/find_gpu.py``) and says it after an attach. What comes back is a VM's: it is checked, cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .errors import printable
from .libraries import Use
from .models import Compute
from .notebookfacts import NotebookFacts

BUILT_ON = {
    "torch": (
        "PyTorch", "Lightning", "fastai", "Accelerate", "Transformers", "TRL", "Diffusers", "Sentence Transformers",
        "Ultralytics", "Whisper", "EasyOCR", "Stanza", "vLLM",
    ),
    "tensorflow": ("TensorFlow", "Keras"),
    "jax": ("JAX", "Flax, Optax, Haiku, Equinox", "NumPyro"),
    "xgboost": ("XGBoost",),
}  # fmt: skip
"""What is looked at there, and which rows of the table compute with it."""

NAMES = {"torch": "PyTorch", "tensorflow": "TensorFlow", "jax": "JAX", "xgboost": "XGBoost"}

INSTALL = {
    "torch": "https://pytorch.org/get-started/locally/ has the line that installs one for CUDA.",
    "tensorflow": "%pip install 'tensorflow[and-cuda]' in a cell there installs one for CUDA, with its libraries.",
    "jax": "%pip install -U 'jax[cuda12]' in a cell there adds CUDA.",
    "xgboost": "%pip uninstall -y xgboost-cpu and %pip install xgboost in a cell there install one for CUDA.",
}

MAX_VERSION = 60


def looked_at(facts: NotebookFacts, row: Compute) -> list[str]:
    """What is to be asked of the machine: nothing where it has no GPU of NVIDIA's, or where nothing in the notebook would use one.
    The empty list and ``uses_gpu`` together mean that only the driver counts."""
    if not has_nvidia(row):
        return []
    names = {f.library.name for f in facts.found}
    return [key for key, rows in BUILT_ON.items() if names & set(rows)]


def uses_gpu(facts: NotebookFacts) -> bool:
    return any(f.library.use is not Use.NEVER for f in facts.found)


def has_nvidia(row: Compute) -> bool:
    size = row.size
    return bool(size and size.gpus and not (size.gpu_model or "").upper().startswith("AMD"))


def fallback_notes(answer: dict[str, Any], asked: Sequence[str], row: Compute) -> list[str]:
    """Sentences; none where all is well, or where nothing can be told."""
    if answer.get("driver") == "":
        return [
            f"{row.name} has a GPU, and no driver of NVIDIA's that works (nvidia-smi is not there, or fails): the notebook's "
            "libraries fall back to the CPU or fail. Restart the machine; if that does not help, install the driver "
            "(https://learn.microsoft.com/azure/virtual-machines/linux/n-series-driver-setup)."
        ]
    builds = answer.get("builds")
    notes = []
    for key in asked:
        built = builds.get(key) if isinstance(builds, dict) else None
        if isinstance(built, list) and built[:1] == ["cpu"]:
            version = printable(str(built[1]), MAX_VERSION) if len(built) > 1 and built[1] else ""
            about = f" ({version})" if version else ""
            notes.append(
                f"{NAMES[key]} on {row.name} is a build for the CPU{about} and does not use the GPU there. {INSTALL[key]}"
            )
        elif isinstance(built, list) and built[:1] == ["bare"]:
            notes.append(f"{NAMES[key]} on {row.name} finds no cuDNN there, and does not use the GPU. {INSTALL[key]}")
    return notes
