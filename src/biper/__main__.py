"""``python -m biper``, the same as the command ``biper``."""

from biper.cli.app import main

main()
