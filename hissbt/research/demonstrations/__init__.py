"""Two ways to fool oneself, made to be looked at: a leak that looks like skill, and the best of many models.

============  =========================================================================
``haar``      inputs denoised and scaled by the whole set, and their twin by what was known
``leaky``     what a model makes of both, and what the audit says of them
``models``    small models drawn at random
``million``   a thousand of them: the best in sample, and what became of it
``page``      what their pages share, see ``leaky_page`` and ``million_page``
``verdicts``  what their figures show
============  =========================================================================
"""
