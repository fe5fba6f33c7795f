"""Describes the machine that measures: what decides its figures, and nothing that tells whose it is."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_DISTRIBUTIONS = ("s3torch-client", "torch", "boto3", "awscrt")
_UNKNOWN = "unknown processor"


@dataclass(frozen=True, slots=True)
class Machine:
    """What a record says of the machine: no name of the host or of a user, no path."""

    cpu: str
    """The processor's model."""
    cores: int
    """Processors that this process may use."""
    memory: int
    """Bytes of main memory; 0 where unknown."""
    system: str
    """The kernel's name, the first two numbers of its version, and the architecture."""
    python: str
    """Python's version."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the distributions that matter."""

    @property
    def kind(self) -> tuple[str, int, str]:
        """What two records must share to be comparable; versions are what one compares."""
        return self.cpu, self.cores, self.system.split()[0]

    def __str__(self) -> str:
        """Return it as one line for people."""
        memory = f", {self.memory / 2**30:.0f} GiB" if self.memory else ""
        versions = "".join(f", {name} {number}" for name, number in self.versions.items())
        return f"{self.cpu}, {self.cores} cores{memory}, {self.system}, Python {self.python}{versions}"


def describe_machine() -> Machine:
    """Return what this machine is."""
    return Machine(
        cpu=_cpu(),
        cores=_cores(),
        memory=_meminfo("MemTotal"),
        system=f"{platform.system()} {kernel_version(platform.release())} {platform.machine()}",
        python=platform.python_version(),
        versions=_versions(),
    )


def _cores() -> int:
    if sys.platform != "linux":
        return os.cpu_count() or 1
    return len(os.sched_getaffinity(0))


def available_memory() -> int:
    """Return the bytes of memory that programs can take without harm to others; 0 where unknown."""
    return _meminfo("MemAvailable")


def kernel_version(release: str) -> str:
    """Return the numbers that begin a kernel's release; those who build kernels put names behind them."""
    found = re.match(r"\d+(\.\d+)?", release)
    return found[0] if found else ""


def _cpu() -> str:
    if sys.platform == "linux":
        for line in _read(Path("/proc/cpuinfo")).splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return " ".join(value.split())
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return platform.processor() or _UNKNOWN
        return done.stdout.strip() or _UNKNOWN
    return platform.processor() or _UNKNOWN


def _meminfo(name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB", _read(Path("/proc/meminfo")), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _versions() -> dict[str, str]:
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
