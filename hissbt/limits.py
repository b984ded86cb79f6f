"""Bounds within the networks, which training has in torch and a stream without it: one number for both.

``REACH``            standard deviations that a latent is inferred from: x becomes REACH tanh(x / REACH)
``BOUND``            of a log standard deviation, e^-5 … e^5
``LEAST_DF``         degrees of freedom of a t distribution: above 2, so that there is a variance
``LEAST_DEVIATION``  of a regime, in the return's own units: likelihood is unbounded where one can vanish
"""

REACH = 3.0
BOUND = 5.0
LEAST_DF = 2.05
LEAST_DEVIATION = 0.01
