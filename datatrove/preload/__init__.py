"""What workers of datatrove's local executor begin with: modules that its fork server imports before it forks the first of them.

A step names its module when it is constructed, in the process of the script. The server, which the first executor of a script
starts, then imports and loads once what each worker of each of its executors would by itself. Other executors, and other ways
to start processes, know nothing of it, and their workers load as they go.
"""

from __future__ import annotations

from .. import installed as installed


def share(name: str) -> None:
    """Have the fork server import a module of this folder; too late if it runs already, and for nothing if it never does."""
    from multiprocess import forkserver

    server = forkserver._forkserver
    module = f"{__name__}.{name}"
    if module not in server._preload_modules:
        server.set_forkserver_preload([*server._preload_modules, module])
