"""The fast forms of tensors: their memory comes off the device first, and they arrive on the CPU."""

from __future__ import annotations

import ctypes
from typing import Any, Callable, Dict, Iterator, Tuple

PIECE = 8 * 1024 * 1024
"""Bytes that are taken off a device at a time."""


# PyTorch


class Storage:
    """The memory of tensors, which several may share. One for each in a pickle, so that they share it there too."""

    def __init__(self, storage: Any, device: Any) -> None:
        self.storage = storage
        self.device = device


def _tensor(pickler: Any, tensor: Any) -> Any:
    """A dense tensor. Others (sparse, quantized, meta) are left to torch."""
    import torch

    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type == "meta" or not tensor.numel():
        return NotImplemented
    untyped = getattr(tensor, "untyped_storage", None)
    if untyped is None or (tensor.is_conj() or tensor.is_neg()):  # before torch 2
        return NotImplemented
    storage = untyped()
    if tensor.device.type != "cpu":
        pickler.note(f"It was on {tensor.device} and arrives on the CPU.")
    if 2 * tensor.numel() * tensor.element_size() < storage.nbytes() and storage.data_ptr() not in pickler.storages:
        copy = tensor.detach().clone(memory_format=torch.contiguous_format)  # a small part of something larger
        return made_tensor, (Storage(copy.untyped_storage(), copy.device), *_described(copy, tensor))
    pickler.shares(("storage", storage.data_ptr()))
    held = pickler.storages.setdefault(storage.data_ptr(), Storage(storage, tensor.device))
    return made_tensor, (held, *_described(tensor, tensor))


def _described(tensor: Any, original: Any) -> Tuple[Any, ...]:
    parameter = type(original).__name__ == "Parameter"
    dtype = str(tensor.dtype).partition(".")[2]
    return dtype, tuple(tensor.size()), tensor.stride(), tensor.storage_offset(), original.requires_grad, parameter


def _storage(pickler: Any, held: Storage) -> Any:
    size = held.storage.nbytes()
    ticket = pickler.sink.part({"form": "bytes"}, size, _memory_of(held))
    return made_storage, (ticket,)


def _memory_of(held: Storage) -> Iterator[Any]:
    import torch

    size = held.storage.nbytes()
    if held.device.type == "cpu":
        yield _at(held.storage.data_ptr(), size, held.storage)
        return
    flat = torch.empty(0, dtype=torch.uint8, device=held.device).set_(held.storage)
    for start in range(0, size, PIECE):
        piece = flat[start : start + PIECE].cpu()
        yield _at(piece.data_ptr(), piece.numel(), piece)


def _at(address: int, size: int, owner: Any) -> memoryview:
    """Memory of torch's, which lives as long as this does. Without NumPy, which torch can be without."""
    memory: Any = (ctypes.c_ubyte * size).from_address(address)
    memory.owner = owner
    return memoryview(memory).cast("B")


def made_storage(ticket: int) -> Any:
    """Called by the pickle: the memory that has come, as bytes of torch's."""
    import torch

    from .pickling import take

    return torch.frombuffer(take(ticket), dtype=torch.uint8)


def made_tensor(
    memory: Any,
    dtype: str,
    size: Tuple[int, ...],
    stride: Tuple[int, ...],
    offset: int,
    requires_grad: bool,
    parameter: bool,
) -> Any:
    import torch

    tensor = torch.empty(0, dtype=getattr(torch, dtype)).set_(memory.untyped_storage(), offset, size, stride)
    if parameter:
        return torch.nn.Parameter(tensor, requires_grad)
    return tensor.requires_grad_() if requires_grad else tensor


# What goes through NumPy


def _through_numpy(module: str) -> Callable[[Any, Any], Any]:
    def reduce(pickler: Any, array: Any) -> Any:
        import numpy

        if module != "jax":
            pickler.note("It was on a GPU; where there is none, it arrives as a NumPy array.")
        if pickler.only_counts:
            return from_numpy, (pickler.sink.part({}, array.nbytes, iter(())), module)
        return from_numpy, (array.get() if hasattr(array, "get") else numpy.asarray(array), module)

    return reduce


def from_numpy(array: Any, module: str) -> Any:
    """Called by the pickle."""
    if module == "jax":
        import jax

        return jax.numpy.asarray(array)
    try:
        import cupy

        return cupy.asarray(array)
    except Exception:  # not installed, or no GPU that works
        return array


def _variable(pickler: Any, variable: Any) -> Any:
    return tensorflow_variable, (variable.numpy(), bool(variable.trainable), variable.name.partition(":")[0])


def tensorflow_variable(value: Any, trainable: bool, name: str) -> Any:
    import tensorflow

    return tensorflow.Variable(value, trainable=trainable, name=name)


REDUCERS: Dict[Tuple[str, str], Callable[[Any, Any], Any]] = {
    ("torch", "Tensor"): _tensor,
    ("torch.nn.parameter", "Parameter"): _tensor,
    (__name__, "Storage"): _storage,
    ("jaxlib._jax", "ArrayImpl"): _through_numpy("jax"),
    ("jaxlib.xla_extension", "ArrayImpl"): _through_numpy("jax"),
    ("jaxlib", "ArrayImpl"): _through_numpy("jax"),
    ("cupy", "ndarray"): _through_numpy("cupy"),
    ("cupy._core.core", "ndarray"): _through_numpy("cupy"),
    ("tensorflow.python.ops.resource_variable_ops", "ResourceVariable"): _variable,
}
