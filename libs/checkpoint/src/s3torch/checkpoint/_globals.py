"""Whether unpickling may run before the tensors' bytes are there: only if nothing in the pickle looks at them."""

from __future__ import annotations

import pickletools

import torch

__all__ = ["reads_no_tensor"]

# Opcodes that call or import in a way that the list of names below does not cover.
_OPAQUE = frozenset({"EXT1", "EXT2", "EXT4", "INST", "OBJ", "PERSID", "STACK_GLOBAL"})

_SAFE = frozenset(
    {
        # Containers and plain values. Sets and dictionaries hash a tensor by its identity.
        "__builtin__ bytearray",
        "__builtin__ complex",
        "__builtin__ frozenset",
        "__builtin__ list",
        "__builtin__ range",
        "__builtin__ set",
        "__builtin__ slice",
        "_codecs encode",
        "builtins bytearray",
        "builtins complex",
        "builtins frozenset",
        "builtins list",
        "builtins range",
        "builtins set",
        "builtins slice",
        "collections Counter",
        "collections OrderedDict",
        "collections defaultdict",
        "collections deque",
        "datetime date",
        "datetime datetime",
        "datetime timedelta",
        "datetime timezone",
        "pathlib PosixPath",
        "pathlib PurePosixPath",
        "uuid UUID",
        # NumPy's values bring their bytes in the pickle itself.
        "numpy dtype",
        "numpy ndarray",
        "numpy._core.multiarray _reconstruct",
        "numpy._core.multiarray scalar",
        "numpy.core.multiarray _reconstruct",
        "numpy.core.multiarray scalar",
        # Strided tensors: made from a storage by setting size and stride.
        "torch Size",
        "torch Tensor",
        "torch device",
        "torch._tensor _rebuild_from_type_v2",
        "torch._utils _rebuild_parameter",
        "torch._utils _rebuild_parameter_with_state",
        "torch._utils _rebuild_tensor",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_tensor_v3",
        "torch.nn.parameter Buffer",
        "torch.nn.parameter Parameter",
        "torch.serialization _get_layout",
        "torch.storage TypedStorage",
        "torch.storage UntypedStorage",
    }
)
_ELEMENT_TYPES = frozenset(name for name, value in vars(torch).items() if isinstance(value, torch.dtype))


def reads_no_tensor(pickle: bytes) -> bool:
    """Tell whether a pickle made by `torch.save` rebuilds only what never looks into a storage.

    Args:
        pickle: The pickle.

    Returns:
        False also where that cannot be told, such as for classes of the user's own.
    """
    try:
        for opcode, argument, _ in pickletools.genops(pickle):
            if opcode.name in _OPAQUE:
                return False
            if opcode.name == "GLOBAL" and not _is_safe(str(argument)):
                return False
    except ValueError:  # no pickle; torch says so better
        return False
    return True


def _is_safe(name: str) -> bool:
    if name in _SAFE:
        return True
    # Types of elements (torch.bfloat16) and of storages (torch.BFloat16Storage).
    module, _, attribute = name.partition(" ")
    if module != "torch":
        return False
    return attribute.endswith("Storage") or attribute in _ELEMENT_TYPES
