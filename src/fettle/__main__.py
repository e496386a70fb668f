"""``python -m fettle`` is ``fettle``."""

from fettle.cli.main import main

main()
