"""``python -m biper``, the same as the command ``biper``."""

from biper.cli.interrupts import Interrupts, end_interrupted


def main() -> None:
    """Run the command line; Ctrl-C is one line even while it is imported."""
    try:
        Interrupts().install()
        from biper.cli.app import main as run

        run()
    except KeyboardInterrupt:
        end_interrupted()


if __name__ == "__main__":
    main()
