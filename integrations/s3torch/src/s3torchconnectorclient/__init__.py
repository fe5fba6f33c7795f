"""The import name ``s3torchconnectorclient``: names of `s3torch.client` where users of the original look for them.

``__version__`` is that of the API supplied, which is what code asks it for; ``s3torch.client.__version__`` is ours.
"""

from s3torchconnectorclient._conflict import check_no_other_supplier

check_no_other_supplier()

from s3torch.client import S3Exception  # noqa: E402  # nothing is imported from a mixture of two distributions
from s3torchconnectorclient._version import __version__  # noqa: E402  # the same

__all__ = ["S3Exception", "__version__"]
