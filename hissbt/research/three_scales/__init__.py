"""A hierarchy beside flat networks of its size, on a system that has three time scales.

``system`` is the system, with its noise floor in closed form; everything that decides the outcome is in
``protocol``; ``comparison`` is ``hissbt compare --preset three-scales``, ``verdicts`` says by rule what it showed,
``page`` shows it.
"""
