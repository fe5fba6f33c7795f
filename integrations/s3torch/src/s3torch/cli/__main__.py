"""``python -m s3torch.cli``."""

import sys

from s3torch.cli.application import main

sys.exit(main())
