"""Torchdata calls what torch has given up."""

import warnings

warnings.filterwarnings("ignore", "'set_vital' is deprecated", UserWarning)
