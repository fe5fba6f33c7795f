"""The report as one HTML file that needs nothing else: no network, no other file.

`_view` decides what is shown, as plain values; the template, the style and the script say how.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING

from s3torch.harness.bench.history import Record
from s3torch.harness.bench.html._view import make_page
from s3torch.harness.bench.regressions import Change

if TYPE_CHECKING:
    import jinja2

__all__ = ["render"]


def render(record: Record, history: Sequence[Record] = (), changes: Sequence[Change] = ()) -> str:
    """Return the report of one run.

    Args:
        record: The run.
        history: Earlier ones; those that are comparable give the trends.
        changes: What differs from them, as ``compare`` has found.

    Returns:
        The whole document.
    """
    return _template().render(page=make_page(record, history, changes))


@functools.cache
def _template() -> jinja2.Template:
    import jinja2
    from markupsafe import Markup

    folder = resources.files(__name__)
    files = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")}
    environment = jinja2.Environment(
        loader=jinja2.DictLoader(files),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda part: f"{100 * part:.2f}%"
    # Our own files, the only text that is not escaped.
    environment.globals.update(style=Markup(files["page.css"]), script=Markup(files["page.js"]))  # noqa: S704
    return environment.get_template("page.html")
