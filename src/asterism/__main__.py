"""`python -m asterism`: the command line, also for launchers that start modules."""

from asterism.cli import main

main()
