from __future__ import annotations


def test_imports() -> None:
    import s3torch.lightning

    assert s3torch.lightning.__doc__
