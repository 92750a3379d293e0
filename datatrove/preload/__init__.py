"""What workers of datatrove's local executor begin with: modules that its fork server imports before it forks the first of them.

A step names its module when it is constructed, in the process of the script. The server, which the first executor of a script
starts, then imports and loads once what each worker of each of its executors would by itself. Other executors, and other ways
to start processes, know nothing of it, and their workers load as they go.
"""

from __future__ import annotations

import os

from .. import installed as installed

ENCODER = "FOX1_PRELOAD_ENCODER"
"""The environment variable by which the server learns of the model whose encoder it loads."""


def share(name: str, encoder: str = "") -> None:
    """Have the fork server import a module of this folder; too late if it runs already, and for nothing if it never does.

    Args:
        encoder: the path of a SentencePiece model, for `tokens`.
    """
    from multiprocess import forkserver

    if encoder:
        os.environ[ENCODER] = encoder

    server = forkserver._forkserver
    module = f"{__name__}.{name}"
    if module not in server._preload_modules:
        server.set_forkserver_preload([*server._preload_modules, module])
