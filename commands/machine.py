"""The command that looks at the machine: doctor."""

from __future__ import annotations

import typer

from .options import RayAddress


def doctor(address: RayAddress = None) -> None:
    """Check Python, packages, memory, disk, Ray, GPU, data, tokenizer and credentials, and say what to do. Exit status 1:
    something is missing.
    """
    from ..doctor import check_machine, report

    if not report(check_machine(address), print):
        raise typer.Exit(1)
