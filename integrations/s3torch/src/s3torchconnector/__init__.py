"""The import name ``s3torchconnector``: names of the ``s3torch`` packages where users of the original look for them.

``__version__`` is that of the API supplied, which is what code asks it for; ``s3torch.client.__version__`` is ours.
"""

import s3torchconnectorclient  # noqa: F401  # first: it checks that no other supplier is installed
from s3torchconnector._s3client import S3ClientConfig
from s3torchconnector.s3checkpoint import S3Checkpoint
from s3torchconnector.s3iterable_dataset import S3IterableDataset
from s3torchconnector.s3map_dataset import S3MapDataset
from s3torchconnector.s3reader import S3Reader, S3ReaderConstructor
from s3torchconnector.s3writer import S3Writer
from s3torchconnectorclient import S3Exception, __version__

__all__ = [
    "S3Checkpoint",
    "S3ClientConfig",
    "S3Exception",
    "S3IterableDataset",
    "S3MapDataset",
    "S3Reader",
    "S3ReaderConstructor",
    "S3Writer",
    "__version__",
]
