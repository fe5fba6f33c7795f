"""What a checkpoint's metadata tells of each stored item beyond what torch records.

It rides on torch's own values as an additional attribute, which survives pickling and which stock PyTorch ignores.
"""

from __future__ import annotations

from torch.distributed.checkpoint.filesystem import _StorageInfo

__all__ = ["note_payload", "payload_offset"]

_PAYLOAD = "s3torch_payload_offset"


def note_payload(info: _StorageInfo, offset: int) -> None:
    """Record where a tensor's elements lie.

    Only for elements that are stored uncompressed, in the tensor's own type, in the order of its indices
    (C-contiguous).

    Args:
        info: The item.
        offset: First byte of the elements, counted from the item's first byte.
    """
    setattr(info, _PAYLOAD, offset)


def payload_offset(info: _StorageInfo) -> int | None:
    """Return what `note_payload` has recorded.

    Args:
        info: The item.

    Returns:
        First byte of the elements, counted from the item's first byte; None where nothing was recorded.
    """
    offset = getattr(info, _PAYLOAD, None)
    return offset if isinstance(offset, int) and offset >= 0 else None
