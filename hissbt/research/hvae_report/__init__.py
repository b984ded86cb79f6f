"""What a hierarchical VAE is worth: beside a flat one and the cheap models of returns, and level by level.

``comparison`` is ``hissbt compare --preset hvae``: everything that decides its outcome is in ``protocol``;
``material`` cuts the bars, ``measures`` works the figures out from what ``hissbt.training.vae_trials`` trained,
``verdicts`` says by rule what they show, ``page`` shows it. ``analysis`` is ``hissbt analyze``, of one trained
bundle: what it said of every bar are its ``readings``, and a room each is for ``forecasts``, ``clusters`` and
``anomalies``.
"""
