"""The version of the API that is supplied."""

__all__ = ["__version__"]

__version__ = "1.5.0"
