"""From runs to a page in the browser, until the command is interrupted."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from ...api import Run
from ...storage.store import shown
from ...storage.wording import say
from .answers import Answers
from .server import LOOPBACK, PageServer


def serve(
    runs: Sequence[Run], port: int = 0, opens: bool = True, training: Path | None = None, tuning: Path | None = None
) -> None:
    """Serve the page of one run, or of two, until KeyboardInterrupt.

    Args:
        port: 0: any that is free.
        opens: have the browser open the page.
        training: on the first run; its losses are shown beside the mixture.
        tuning: has a view of its own.

    Raises:
        ValueError: a run is not finished, or the port is taken.
    """
    answers = Answers(runs, training, tuning)
    try:
        server = PageServer(answers.by_question(), port)
    except OSError as error:
        answers.close()
        raise ValueError(
            f"port {port} of {LOOPBACK} cannot be used ({error.strerror}); choose another --port"
        ) from None
    answers.start()
    names = " and ".join(shown(run.paths.root) for run in runs)
    say(f"{names}: {server.address}")
    say("The address works on this machine alone. Ctrl-C ends it.")
    if opens:
        # Some browsers hold the terminal until they are closed.
        threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
    try:
        server.serve_forever()
    finally:
        server.server_close()
        answers.close()
