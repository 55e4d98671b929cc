"""The benchmark of training, `pir bench train`: what an optimizer step takes, and what of it.

`training` is the measurement, `contenders` who is measured, `parts` where the time of a step goes.
"""
