"""``python -m hissbt`` is the ``hissbt`` command."""

from hissbt.cli import main

main()
