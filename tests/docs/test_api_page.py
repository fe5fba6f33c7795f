"""The list of public names is the one that the sources give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PRINT_PAGE = """
import runpy, sys
sys.stdout.reconfigure(encoding="utf-8", newline="")
print(runpy.run_path(sys.argv[1])["api_page"](), end="")
"""


def test_the_list_of_public_names_is_up_to_date(root: Path) -> None:
    command = [sys.executable, "-c", PRINT_PAGE, str(root / "docs" / "make_api.py")]
    made = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=100, check=False)
    assert made.returncode == 0, made.stderr
    page = (root / "docs" / "api.md").read_text(encoding="utf-8")
    assert page == made.stdout, "run: python docs/make_api.py"
