"""Benchmarks: each scenario beside its floor of plain sockets and its peers, each subject in a process and environment
of its own.

``python -m s3torch.harness.bench`` measures and prints the table; see ``scenarios`` for what is measured.
"""
