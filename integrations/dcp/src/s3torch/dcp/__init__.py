"""torch.distributed.checkpoint on S3."""

from s3torch.dcp.catalog import CheckpointEntry, Leftover, S3CheckpointCatalog
from s3torch.dcp.errors import (
    CheckpointError,
    CheckpointExistsError,
    CheckpointNotFoundError,
    CheckpointVersionError,
    CorruptCheckpointError,
)
from s3torch.dcp.hugging_face import S3HuggingFaceStorageReader, S3HuggingFaceStorageWriter
from s3torch.dcp.reader import S3StorageReader
from s3torch.dcp.s3_file_system import S3FileSystem
from s3torch.dcp.s3_prefix_strategy import (
    BinaryPrefixStrategy,
    DefaultPrefixStrategy,
    HexPrefixStrategy,
    NumericPrefixStrategy,
    RoundRobinPrefixStrategy,
    S3PrefixStrategyBase,
)
from s3torch.dcp.safetensors import (
    S3Safetensors,
    S3SafetensorsSlice,
    SafetensorsError,
    UnknownTensorError,
    load_safetensors,
    open_safetensors,
    save_safetensors,
)
from s3torch.dcp.writer import S3StorageWriter

__all__ = [
    "BinaryPrefixStrategy",
    "CheckpointEntry",
    "CheckpointError",
    "CheckpointExistsError",
    "CheckpointNotFoundError",
    "CheckpointVersionError",
    "CorruptCheckpointError",
    "DefaultPrefixStrategy",
    "HexPrefixStrategy",
    "Leftover",
    "NumericPrefixStrategy",
    "RoundRobinPrefixStrategy",
    "S3CheckpointCatalog",
    "S3FileSystem",
    "S3HuggingFaceStorageReader",
    "S3HuggingFaceStorageWriter",
    "S3PrefixStrategyBase",
    "S3Safetensors",
    "S3SafetensorsSlice",
    "S3StorageReader",
    "S3StorageWriter",
    "SafetensorsError",
    "UnknownTensorError",
    "load_safetensors",
    "open_safetensors",
    "save_safetensors",
]
