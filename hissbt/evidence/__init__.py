"""What a record of returns says about skill; pure functions that every floor of the house may use.

================  ===================================================================================
``sharpe``        probabilistic and deflated Sharpe ratio, minimum track record
``independence``  how many independent values an autocorrelated sample is worth
``verdict``       all of it in a plain sentence, which is a refusal where the sample is too short
================  ===================================================================================
"""
