"""Forecasters that stand or fall by the same bars: one task, many rivals.

=================  =========================================================================================
``task``           what every rival is given, and what it has to give back
``rules``          buy-and-hold, random walk, momentum
``tabular``        ridge, random forest, boosted trees, support vectors, neighbors (scikit-learn)
``econometric``    GARCH, GJR, HAR with range and season
``networks``       HiSS, flat S4D and Mamba, LSTM, GRU, Transformer, switching networks, all of one size
``sizes``          how wide a network has to be for a number of parameters
``roster``         all of them, and the settings that each is tried with
=================  =========================================================================================
"""
