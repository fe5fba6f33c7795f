"""Two suppliers of one import name: say so, instead of a puzzle of mixed files."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

__all__ = ["check_no_other_supplier"]

_OTHERS = ("s3torchconnector", "s3torchconnectorclient")


def check_no_other_supplier() -> None:
    """Raise if Amazon's distributions of the same import names are installed beside this one.

    Both write into the same folders, so that the files found are those of whichever was installed last.

    Raises:
        ImportError: One of them is installed; the message names it and the commands that help.
    """
    found = []
    for name in _OTHERS:
        try:
            found.append(f"{name} {distribution(name).version}")
        except PackageNotFoundError:
            continue
    if found:
        raise ImportError(
            f"s3torch supplies the import names {' and '.join(_OTHERS)}, but {' and '.join(found)} is installed, too."
            f" Keep one: `pip uninstall {' '.join(_OTHERS)}`, then `pip install --force-reinstall --no-deps s3torch`."
        )
