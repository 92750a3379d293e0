"""`fox1`, and `python -m fox1` where that script is not installed (a job's workers)."""

from .commands.interrupt import ended_by_signals


def main() -> None:
    """The command line; a signal ends it in one line also while it is still being imported."""
    with ended_by_signals():
        from .commands.app import main as run

        run()


if __name__ == "__main__":
    main()
