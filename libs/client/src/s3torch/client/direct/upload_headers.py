"""Upload options as headers (API page of PutObject)."""

from __future__ import annotations

from urllib.parse import urlencode

from s3torch.client.values import PutOptions

__all__ = ["option_headers"]

_NAME = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


def option_headers(options: PutOptions, *, with_condition: bool = True) -> tuple[list[tuple[str, str]], str]:
    """Return the headers of upload options.

    Args:
        options: What the upload asks for.
        with_condition: Whether a conditional create is part of this request; with parts, it is of the last.

    Returns:
        The ``x-amz-*`` headers, which are signed, and the lines of the others.

    Raises:
        ValueError: A value cannot stand in a header.
    """
    named = {
        "x-amz-storage-class": options.storage_class,
        "x-amz-server-side-encryption": options.server_side_encryption,
        "x-amz-server-side-encryption-aws-kms-key-id": options.kms_key_id,
        "x-amz-acl": options.acl,
        "x-amz-tagging": urlencode(options.tags) or None,
    }
    for name, value in options.metadata.items():
        header = f"x-amz-meta-{name.lower()}"
        if not name or header in named:
            raise ValueError(f"metadata needs names that differ in more than case, got {name!r}")
        named[header] = value
    amz = [(_checked_name(name), _checked(name, value)) for name, value in named.items() if value is not None]
    lines = ""
    if options.content_type is not None:
        lines += f"Content-Type: {_checked('content_type', options.content_type)}\r\n"
    if options.if_none_match and with_condition:
        lines += "If-None-Match: *\r\n"
    return amz, lines


def _checked_name(name: str) -> str:
    if not set(name) <= _NAME:
        raise ValueError(f"not a header name: {name!r}")
    return name


def _checked(name: str, value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise ValueError(f"{name} must be printable ASCII to stand in a header, got {value!r}")
    return value.strip()
