"""A free port, and a page of the demo that a process of its own serves."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def free_port() -> int:
    """A port that no process uses, of those that the system gives to nobody who does not ask for it."""
    for port in range(10_000 + os.getpid() % 20_000, 32_768):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError("no port is free")


@contextmanager
def served(command: list[str], directory: Path, **environment: str) -> Iterator[str]:
    """Run a command in `directory` that serves a page at the port of GRADIO_SERVER_PORT; gives the address."""
    port = free_port()
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), **environment}
    command = [sys.executable, *(word.replace("PORT", str(port)) for word in command)]
    with (directory / "served.log").open("w") as log:
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 300
        while True:
            try:
                with urllib.request.urlopen(address, timeout=5):
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((directory / "served.log").read_text()) from None
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
