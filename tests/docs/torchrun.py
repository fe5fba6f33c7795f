"""The programs of the documentation for several processes, as torchrun starts them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from s3torch.harness.servers import MotoServer
from s3torch.harness.servers._address import own_environment

__all__ = ["DEADLINE", "torchrun"]

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
# Most of it is for imports: on a busy machine they take long.
DEADLINE = 180


def torchrun(server: MotoServer, ranks: int, program: str, *arguments: str) -> list[str]:
    """Run a program to its end; return what each rank has printed.

    Each rank prints into a file of its own: torchrun runs Python unbuffered, where a line and its end are two
    writes, and on one pipe another rank's line may come between them.
    """
    with tempfile.TemporaryDirectory() as logs:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        launcher += ["--redirects=1", f"--log-dir={logs}"]
        finished = subprocess.run(
            [*launcher, str(EXAMPLES / program), *arguments],
            env={**own_environment(), **server.env(), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        # Laid as JOB/attempt_0/RANK/stdout.log.
        files = sorted(Path(logs).rglob("stdout.log"), key=lambda file: int(file.parent.name))
        printed = [file.read_text(encoding="utf-8") for file in files]
    assert finished.returncode == 0, "\n".join([*printed, finished.stdout, finished.stderr])
    assert len(printed) == ranks
    return printed
