"""Serves one part of the stack: `python -m local.part MODULE:FACTORY FD PARENT`.

The listening socket is inherited, so its address was known before this process existed, and clients that connect
meanwhile wait instead of being refused.
"""

import socket
import sys

import uvicorn

from local.lifeline import die_with_parent

SHUTDOWN_SECONDS = 3


def main() -> None:
    """Serves until SIGTERM, or until the parent dies."""
    factory, fd, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    serve(factory, socket.socket(fileno=fd), parent)


def serve(factory: str, listener: socket.socket, parent: int) -> None:
    """The same, in a process that exists."""
    die_with_parent(parent)
    config = uvicorn.Config(
        factory,
        factory=True,
        lifespan="on",
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        # Otherwise every message is compressed anew for each of its receivers.
        ws_per_message_deflate=False,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        ws_max_size=16 * 1024 * 1024,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
