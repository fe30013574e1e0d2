"""`python -m duress` is `duress`."""

from duress.cli import main

main()
