"""What readers are made of, as types."""

from s3torch.readers import DCPS3ReaderConstructorProtocol, GetStreamCallable, S3ReaderConstructorProtocol

__all__ = ["DCPS3ReaderConstructorProtocol", "GetStreamCallable", "S3ReaderConstructorProtocol"]
