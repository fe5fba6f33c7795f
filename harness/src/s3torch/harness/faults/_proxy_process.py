"""The proxy's own process: opens and closes ports as it is told, and ends when its standard input does.

Run as ``python -m s3torch.harness.faults._proxy_process PORT_FILE``. Each connection to the port that it writes to
``PORT_FILE`` carries one command, a line of JSON, and its answer, another.
"""

from __future__ import annotations

import json
import os
import socketserver
import sys
import threading
from pathlib import Path
from typing import Any

from s3torch.harness.servers import _lifeline

__all__ = ["main"]


class _Commands:
    """Carries commands out."""

    def __init__(self) -> None:
        # Imported late: a starter that is gone already ends this process at once.
        from s3torch.harness.faults._front import Front

        self._make = Front
        self._fronts: dict[int, Front] = {}
        self._lock = threading.Lock()

    def run(self, command: dict[str, Any]) -> dict[str, Any]:
        from s3torch.harness.faults.plan import FaultPlan

        kind = command["do"]
        if kind == "open":
            host, port = command["upstream"]
            tls = tuple(command["tls"]) if command["tls"] else None
            front = self._make((host, port), FaultPlan.from_json(command["plan"]), tls)
            with self._lock:
                self._fronts[front.port] = front
            return {"port": front.port}
        with self._lock:
            front = self._fronts.pop(command["port"]) if kind == "close" else self._fronts[command["port"]]
        if kind == "close":
            counts = front.counts()
            front.close()
            return counts
        if kind == "follow":
            front.follow(FaultPlan.from_json(command["plan"]))
        return front.counts()


def main(port_file: Path) -> None:
    """Serve until standard input ends.

    Args:
        port_file: Where the number of the port for commands goes, written at once, when it listens.
    """
    _lifeline.watch(lambda: os._exit(0))
    commands = _Commands()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            line = self.rfile.readline()
            if line:
                self.wfile.write(json.dumps(commands.run(json.loads(line))).encode() + b"\n")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        _lifeline.announce(server.server_address[1], port_file)
        server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
