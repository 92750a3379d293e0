"""`python -m fox1`: the command line, for places where the `fox1` script is not installed (a job's workers)."""

from .cli import main

main()
