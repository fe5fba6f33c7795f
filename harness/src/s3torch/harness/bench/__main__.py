"""``python -m s3torch.harness.bench``: the command ``s3torch bench``, where only the harness is installed."""

import sys

from s3torch.harness.bench.entry import main

if __name__ == "__main__":
    sys.exit(main())
