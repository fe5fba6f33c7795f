"""Which keys can stand in an XML document: not all that S3 allows."""

from __future__ import annotations

import re

__all__ = ["is_xml_text"]

# What XML 1.0 cannot say, not even escaped (section 2.2, Char).
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def is_xml_text(key: str) -> bool:
    """Whether a request body can name ``key``; one that it cannot is deleted by a request of its own."""
    return _NOT_XML.search(key) is None
