"""Writes ``api.md``: every public name of every package with the beginning of its docstring.

Run as ``python docs/make_api.py``; the tests compare the page with what this would write.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from pathlib import Path

PACKAGES = (
    "s3torch.client",
    "s3torch.readers",
    "s3torch.writer",
    "s3torch.datasets",
    "s3torch.datasets.decode",
    "s3torch.datasets.loader",
    "s3torch.checkpoint",
    "s3torch.dcp",
    "s3torch.lightning",
    "s3torch.lightning.fabric",
    "s3torchconnector",
    "s3torchconnector.dcp",
    "s3torchconnector.lightning",
    "s3torch.harness.servers",
    "s3torch.harness.conformance",
)
PAGE = Path(__file__).with_name("api.md")
HEAD = """# All public names

Made by `docs/make_api.py` from the sources; each name's own docstring says more.
"""


def api_page() -> str:
    """Return the page."""
    return HEAD + "".join(section(package) for package in PACKAGES)


def section(package: str) -> str:
    """Return one package's part of the page."""
    module = importlib.import_module(package)
    lines = [f"\n## {package}\n\n{first_paragraph(module)}\n\n| name | |\n|---|---|\n"]
    lines += [
        f"| `{name}` | {describe(getattr(module, name))} |\n"
        for name in sorted(module.__all__)
        if name != "__version__"
    ]
    return "".join(lines)


def describe(thing: object) -> str:
    """Return one line on a public name."""
    if isinstance(thing, (int, float)):
        return f"`{thing}`"
    if not (inspect.isclass(thing) or inspect.isroutine(thing)):
        return "A type alias." if typing.get_origin(thing) else ""
    text = first_paragraph(thing).replace("|", "\\|")
    if not inspect.isclass(thing):
        return text
    # An inherited docstring says what the base is.
    return text if "__doc__" in vars(thing) and vars(thing)["__doc__"] else ""


def first_paragraph(thing: object) -> str:
    """Return what a docstring begins with, on one line."""
    paragraph = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    return paragraph.replace("``", "`")


if __name__ == "__main__":
    PAGE.write_text(api_page(), encoding="utf-8")
