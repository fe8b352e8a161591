"""What a size is called and what it has: vCPUs, memory and GPUs, from the size's name.

Called for each row of a listing, so it asks nobody. Sources: the size pages of the Azure documentation
(https://learn.microsoft.com/azure/virtual-machines/sizes/overview) and, for the GPU rows, its N-series pages; no
capability of Azure's own size list names the GPU's model. What is not in here is None, never a guess.
"""

from __future__ import annotations

import re

from ...models import Size

_V100, _V100_16 = "NVIDIA V100 32 GB", "NVIDIA V100 16 GB"
_T4, _A100, _H100 = "NVIDIA T4 16 GB", "NVIDIA A100 80 GB", "NVIDIA H100 NVL 94 GB"
_RTX = "NVIDIA RTX PRO 6000 Blackwell 96 GB"

# name without "Standard_", lower-case: (vCPUs, memory GiB, GPUs, model)
_GPU_SIZES: dict[str, tuple[int, float | None, int | None, str]] = {
    "nc4as_t4_v3": (4, 28, 1, _T4),
    "nc8as_t4_v3": (8, 56, 1, _T4),
    "nc16as_t4_v3": (16, 110, 1, _T4),
    "nc64as_t4_v3": (64, 440, 4, _T4),
    "nc24ads_a100_v4": (24, 220, 1, _A100),
    "nc48ads_a100_v4": (48, 440, 2, _A100),
    "nc96ads_a100_v4": (96, 880, 4, _A100),
    "nc40ads_h100_v5": (40, 320, 1, _H100),
    "nc80adis_h100_v5": (80, 640, 2, _H100),
    "ncc40ads_h100_v5": (40, 320, 1, _H100),
    "nc128ds_xl_rtxpro6000bse_v6": (128, 512, 1, _RTX),
    "nc256ds_xl_rtxpro6000bse_v6": (256, 1024, 2, _RTX),
    "nc320ds_xl_rtxpro6000bse_v6": (320, 1280, 2, _RTX),
    "nc128lds_xl_rtxpro6000bse_v6": (128, 256, 1, _RTX),
    "nc256lds_xl_rtxpro6000bse_v6": (256, 512, 2, _RTX),
    "nc320lds_xl_rtxpro6000bse_v6": (320, 640, 2, _RTX),
    "nd96asr_v4": (96, 900, 8, "NVIDIA A100 40 GB"),
    "nd96amsr_a100_v4": (96, 1900, 8, _A100),
    "nd96isr_h100_v5": (96, 1900, 8, "NVIDIA H100 80 GB"),
    "nd96isr_h200_v5": (96, 1850, 8, "NVIDIA H200 141 GB"),
    "nd96is_mi300x_v5": (96, 1850, 8, "AMD MI300X 192 GB"),
    "nd96isr_mi300x_v5": (96, 1850, 8, "AMD MI300X 192 GB"),
    "nd40rs_v2": (40, 672, 8, _V100),
    "nc6s_v3": (6, 112, 1, _V100_16),
    "nc12s_v3": (12, 224, 2, _V100_16),
    "nc24s_v3": (24, 448, 4, _V100_16),
    "nc24rs_v3": (24, 448, 4, _V100_16),
    "nv6": (6, 56, 1, "NVIDIA M60 8 GB"),
}

# Of sizes that the table does not have: pattern of the name → model. What else such a size has, Azure's list says.
_GPU_MODELS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"n[cv]\d+adm?s_a10_v\d$"), "NVIDIA A10 24 GB"),
    (re.compile(r"nc\d+l?ds_xl_rtxpro6000bse_v6$"), _RTX),
    (re.compile(r"nv\d+adm?s_v710_v5$"), "AMD Radeon Pro V710"),
    (re.compile(r"ng\d+adm?s_v620_v1$"), "AMD Radeon Pro V620"),
    (re.compile(r"nv\d+as_v4$"), "AMD Radeon MI25"),
    (re.compile(r"nv\d+s?(_v[23])?$"), "NVIDIA M60 8 GB"),
    (re.compile(r"nd\d+isr_ndr_gb200_v6$"), "NVIDIA GB200"),
    (re.compile(r"nd\d+isr_gb300_v6$"), "NVIDIA GB300"),
    (re.compile(r"np\d+s$"), "AMD Alveo U250 (FPGA)"),
)

# Name: (vCPUs, memory GiB). The older families, whose memory follows no rule.
_CPU_SIZES: dict[str, tuple[int, float]] = {
    "b1ls": (1, 0.5), "b1s": (1, 1), "b1ms": (1, 2), "b2s": (2, 4), "b2ms": (2, 8), "b4ms": (4, 16),
    "b8ms": (8, 32), "b12ms": (12, 48), "b16ms": (16, 64), "b20ms": (20, 80), "b2ts_v2": (2, 1), "b2ats_v2": (2, 1),
    "d1_v2": (1, 3.5), "d2_v2": (2, 7), "d3_v2": (4, 14), "d4_v2": (8, 28), "d5_v2": (16, 56),
    "d11_v2": (2, 14), "d12_v2": (4, 28), "d13_v2": (8, 56), "d14_v2": (16, 112),
    "ds1_v2": (1, 3.5), "ds2_v2": (2, 7), "ds3_v2": (4, 14), "ds4_v2": (8, 28), "ds5_v2": (16, 56),
    "ds11_v2": (2, 14), "ds12_v2": (4, 28), "ds13_v2": (8, 56), "ds14_v2": (16, 112),
}  # fmt: skip

# The families that give a fixed number of GiB per vCPU: pattern of the name → GiB. First match counts.
_FAMILIES: tuple[tuple[re.Pattern[str], float], ...] = (
    (re.compile(r"d(\d+)a?l[nd]*s_v[5-7]$|d(\d+)n?ld?s_v6$"), 2),  # Dls, Dlds, Dals, Dalds; D…nls, D…nlds
    (re.compile(r"d(\d+)a?n?d?s?_v[3-7]$"), 4),  # D, Ds, Dd, Dds, Das, Dads
    (re.compile(r"e([2-9]|[1-3]\d|4[0-8])a?n?d?s?_v[3-7]$"), 8),  # E, Es, Eds, Eas, Eads; above 48 vCPUs less
    (re.compile(r"b(\d+)a?ls_v2$"), 2),
    (re.compile(r"b(\d+)a?s_v2$"), 4),
    (re.compile(r"f(\d+)s_v2$"), 2),
)


def size(name: str) -> Size:
    """The size as the page shows it; fields that this table does not know are None."""
    key = short(name)
    if key in _GPU_SIZES:
        vcpus, memory, gpus, model = _GPU_SIZES[key]
        return Size(name, vcpus, memory, gpus, model)
    if key in _CPU_SIZES:
        return Size(name, *_CPU_SIZES[key], 0)
    for pattern, gib_per_vcpu in _FAMILIES:
        if match := pattern.match(key):
            vcpus = int(next(group for group in match.groups() if group))
            return Size(name, vcpus, vcpus * gib_per_vcpu, 0)
    return Size(name, gpu_model=gpu_model(name))


def short(name: str) -> str:
    """The name as the tables of this package have it: ``nc4as_t4_v3``."""
    return name.lower().removeprefix("standard_").removesuffix("_promo")


def gpu_model(name: str) -> str | None:
    """The model of the GPU that a size of this name has; None where it has none, or it is not known."""
    key = short(name)
    if key in _GPU_SIZES:
        return _GPU_SIZES[key][3]
    return next((model for pattern, model in _GPU_MODELS if pattern.match(key)), None)
