"""Benchmarks: each scenario beside its floor of plain sockets and its peers.

Each subject runs in a process and in an environment of its own, and they take turns.

``python -m s3torch.harness.bench`` measures and prints the table; see ``scenarios`` for what is measured.
"""
