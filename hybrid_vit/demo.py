"""Command: show trained models in the browser. `python -m hybrid_vit.demo`."""

import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

from hybrid_vit.cli.command import name_run, run_command
from hybrid_vit.config.compose import Spec
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.paths import find_run, published, weights_of


def main() -> None:
    run_command("demo", demo, sys.argv[1:], read=name_run, also=possible)


def possible(spec: Spec, directory: Path, multirun: bool) -> None:
    """The run is there with its weights, and the address is free."""
    weights_of(find_run(spec["run"]))
    try:
        with socket.create_server((spec["host"], spec["port"])):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"the address {spec['host']}:{spec['port']} cannot be used ({reason}); give another, e.g. port=7861"
        ) from None


def demo(spec: Spec, directory: Path) -> None:
    """Serve the page until Ctrl-C."""
    from hybrid_vit.deploy.demo import launch  # here: --help and a wrong key need not wait for gradio

    chosen = find_run(spec["run"])
    others = [run for run in published() if run.resolve() != chosen.resolve()]
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that temporary files are removed
    try:
        page, address = launch(
            [chosen, *others],
            root=spec["data"]["root"],
            host=spec["host"],
            port=spec["port"],
            share=spec["share"],
        )
        names = ", ".join(run.resolve().name for run in [chosen, *others])
        print(f"{address} shows {names}; Ctrl-C ends it", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
        page.close()
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    main()
