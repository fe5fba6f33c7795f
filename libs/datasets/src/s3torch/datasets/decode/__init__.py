"""Decoders: picklable functions of a reader that make samples, to be given to a dataset as its ``transform``.

Each is called with the reader of an object, or by `ByExtension` with that of a field of a tar sample. What cannot be
decoded is a `DecodeError` that names the object; what S3 answers passes through as it is.
"""

from s3torch.datasets.decode._batches import collate
from s3torch.datasets.decode._composed import ByExtension, Compose, FolderLabel, WithLabel
from s3torch.datasets.decode._data import Json, Numpy, Raw, Safetensors, Tensor, Text, TorchLoad
from s3torch.datasets.decode._decoder import DecodeError, Decoder
from s3torch.datasets.decode._image import Image

__all__ = [
    "ByExtension",
    "Compose",
    "DecodeError",
    "Decoder",
    "FolderLabel",
    "Image",
    "Json",
    "Numpy",
    "Raw",
    "Safetensors",
    "Tensor",
    "Text",
    "TorchLoad",
    "WithLabel",
    "collate",
]
