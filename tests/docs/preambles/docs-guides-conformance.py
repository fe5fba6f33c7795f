"""The folder of the example that the page imports."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(sys.argv[3]).parents[3] / "docs" / "examples"))
