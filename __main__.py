"""`python -m fox1`: the command line, for places where the `fox1` script is not installed (a job's workers)."""

from .commands.app import main

main()
