"""``python -m hissbt`` is the ``hissbt`` command."""

from hissbt.cli import main

if __name__ == "__main__":  # a worker process imports this module too, under another name
    main()
