"""Stands in for NVIDIA's nvidia-smi on an emulated VM: the GPUs of its size, idle, in the formats that people parse.

Copied to the VM as ``/dsvm/bin/nvidia-smi``; reads ``gpus.json`` beside its ``bin``, in which a test may write a
"utilization" in percent. The formats are those of driver 535, which the Data Science VM's image has.
"""

import json
import sys
import time
import uuid
from pathlib import Path

DRIVER, CUDA = "535.183.01", "12.2"
try:
    HARDWARE = json.loads((Path(__file__).resolve().parent.parent / "gpus.json").read_text())
except OSError:  # read where it is no program of a VM
    HARDWARE = {"count": 0, "model": "", "memory_mib": 0, "vm": ""}
COUNT, MODEL, MEMORY, VM = HARDWARE["count"], HARDWARE["model"], HARDWARE["memory_mib"], HARDWARE["vm"]
CAPABILITIES = {"T4": "7.5", "A100": "8.0", "A10": "8.6", "H100": "9.0"}
POWER_LIMIT = 70.0 if "T4" in MODEL else 300.0


def gpu_uuid(index: int) -> str:
    return "GPU-" + str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{VM}.{index}"))


def value(field: str, index: int, units: bool) -> str:
    """One field of ``--query-gpu``; what the driver does not know it calls so as well."""
    plain = {
        "index": str(index),
        "count": str(COUNT),
        "name": MODEL,
        "gpu_name": MODEL,
        "uuid": gpu_uuid(index),
        "gpu_uuid": gpu_uuid(index),
        "driver_version": DRIVER,
        "timestamp": time.strftime("%Y/%m/%d %H:%M:%S.000"),
        "pci.bus_id": f"{index + 1:08X}:00:00.0",
        "pstate": "P8",
        "temperature.gpu": "34",
        "compute_cap": next((c for name, c in CAPABILITIES.items() if name in MODEL), "8.0"),
    }
    measured = {
        "memory.total": (MEMORY, "MiB"),
        "memory.used": (0, "MiB"),
        "memory.free": (MEMORY, "MiB"),
        "utilization.gpu": (HARDWARE.get("utilization", 0), "%"),
        "utilization.memory": (0, "%"),
        "power.draw": ("9.43", "W"),
        "power.limit": (f"{POWER_LIMIT:.2f}", "W"),
        "fan.speed": ("[N/A]", ""),
    }
    if field in plain:
        return str(plain[field])
    if field in measured:
        number, unit = measured[field]
        return f"{number} {unit}".strip() if units else str(number)
    sys.exit(f'Field "{field}" is not a valid field to query.\n')


def query(fields: "list[str]", options: "list[str]") -> None:
    units = "nounits" not in options
    headings = {"memory": " [MiB]", "utilization": " [%]", "power": " [W]", "fan": " [%]"}
    if "noheader" not in options:
        sys.stdout.write(", ".join(f + (headings.get(f.split(".")[0], "") if "." in f else "") for f in fields) + "\n")
    for index in range(COUNT):
        sys.stdout.write(", ".join(value(f, index, units) for f in fields) + "\n")


def table() -> None:
    line = "+---------------------------------------------------------------------------------------+\n"
    split = "|-----------------------------------------+----------------------+----------------------+\n"
    out = [time.strftime("%a %b %e %H:%M:%S %Y\n"), line]
    out.append(f"| NVIDIA-SMI {DRIVER:<22} Driver Version: {DRIVER:<12} CUDA Version: {CUDA:<5}    |\n")
    out += [split, "| GPU  Name                 Persistence-M | Bus-Id        Disp.A | Volatile Uncorr. ECC |\n"]
    out.append("| Fan  Temp   Perf          Pwr:Usage/Cap |         Memory-Usage | GPU-Util  Compute M. |\n")
    out.append("|                                         |                      |               MIG M. |\n")
    out.append(split.replace("-", "=").replace("+", "+"))
    for index in range(COUNT):
        bus = value("pci.bus_id", index, True)
        out.append(f"| {index:>3}  {MODEL:<26.26}{'Off':>8} | {bus} Off | {'0':>20} |\n")
        out.append(
            f"| N/A   34C    P8 {9:>15}W / {POWER_LIMIT:>3.0f}W | {0:>6}MiB / {MEMORY:>5}MiB | {'0%':>7}      Default |\n"
        )
        out.append("|                                         |                      |                  N/A |\n")
        out.append("+-----------------------------------------+----------------------+----------------------+\n")
    out += ["\n", line, "| Processes:" + " " * 76 + "|\n"]
    out.append("|  GPU   GI   CI        PID   Type   Process name                            GPU Memory |\n")
    out.append("|        ID   ID                                                             Usage      |\n")
    out.append("|=======================================================================================|\n")
    out += ["|  No running processes found" + " " * 59 + "|\n", line]
    sys.stdout.write("".join(out))


def main(arguments: "list[str]") -> None:
    options = {name: rest for name, _, rest in (a.partition("=") for a in arguments)}
    if "-L" in options or "--list-gpus" in options:
        for index in range(COUNT):
            sys.stdout.write(f"GPU {index}: {MODEL} (UUID: {gpu_uuid(index)})\n")
    elif "--query-gpu" in options:
        fields = [f.strip() for f in options["--query-gpu"].split(",")]
        query(fields, [o.strip() for o in options.get("--format", "csv").split(",")])
    elif any(name.startswith("--query-") for name in options):
        # Running programs (``--query-compute-apps``): there are none, so only the headings are left.
        if "noheader" not in options.get("--format", ""):
            sys.stdout.write(
                ", ".join(next(v for k, v in options.items() if k.startswith("--query-")).split(",")) + "\n"
            )
    else:
        table()


if __name__ == "__main__":
    main(sys.argv[1:])
