"""The ledger: what every improvement step gained and wasted, and the mathematics behind it.

`ledger.Ledger` sums the `statistics` of `cells`; a new statistic is one decorated function.
"""
