"""``python -m biper``, the same as the command ``biper``."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C is one line even while it is imported."""
    try:
        from biper.cli.app import main as run

        run()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)  # noqa: T201  nothing else is imported yet
        sys.exit(130)


if __name__ == "__main__":
    main()
