"""Laws as classes to subclass: what every store, reader, writer, dataset and checkpoint does, whoever wrote it.

Each class arranges and asserts around its subject with a client of its own, and asks for nothing but a few fixtures.
`Recorder` wraps an engine to count what it is asked.
"""

import pytest

# The suites assert: pytest is to show what was compared, as it does in test modules. Before they are imported.
for _name in (
    *("_checkpoint_catalogs", "_checkpoint_commits", "_checkpoint_laws", "_checkpoint_round_trips"),
    *(
        "_reader_laws",
        "_sequences",
        "_store_lists",
        "_store_model",
        "_store_reads",
        "_store_sharing",
        "_store_started_lists",
        "_store_writes",
        "dcp",
    ),
    *("_dataset_laws", "_dataset_samples", "_dataset_styles", "_dataset_workers"),
    *("_writer_contents", "_writer_endings", "_writer_laws"),
):
    pytest.register_assert_rewrite(f"s3torch.harness.conformance.{_name}")

from s3torch.harness.conformance._checkpoint_laws import CheckpointStorage  # noqa: E402  # the same
from s3torch.harness.conformance._sequences import law_settings  # noqa: E402  # after the registration above
from s3torch.harness.conformance._store_model import check_store_against_dict  # noqa: E402  # the same
from s3torch.harness.conformance.arrangement import (  # noqa: E402  # after the registration above
    Arrangement,
    Boto3Arrangement,
    Connect,
    MemoryArrangement,
    make_bytes,
)
from s3torch.harness.conformance.checkpoint import CheckpointConformance  # noqa: E402
from s3torch.harness.conformance.dataset import (  # noqa: E402
    IterableDatasetConformance,
    MakeDataset,
    MapDatasetConformance,
)
from s3torch.harness.conformance.dcp import DCPConformance, StoreItems  # noqa: E402
from s3torch.harness.conformance.reader import ReaderConformance, StoredObject, StoreObject  # noqa: E402
from s3torch.harness.conformance.recording import Recorder, RecordingEngine  # noqa: E402
from s3torch.harness.conformance.store import StoreConformance  # noqa: E402
from s3torch.harness.conformance.tapping import Asked, EngineTap, RequestTap  # noqa: E402
from s3torch.harness.conformance.writer import OpenWriter, WriterConformance  # noqa: E402

__all__ = [
    "Arrangement",
    "Asked",
    "Boto3Arrangement",
    "CheckpointConformance",
    "CheckpointStorage",
    "Connect",
    "DCPConformance",
    "EngineTap",
    "IterableDatasetConformance",
    "MakeDataset",
    "MapDatasetConformance",
    "MemoryArrangement",
    "OpenWriter",
    "ReaderConformance",
    "Recorder",
    "RecordingEngine",
    "RequestTap",
    "StoreConformance",
    "StoreItems",
    "StoreObject",
    "StoredObject",
    "WriterConformance",
    "check_store_against_dict",
    "law_settings",
    "make_bytes",
]
