"""Intervals of shares and of means over seeds."""

import math

import numpy as np
import pytest

from pir.evaluation.intervals import student_interval, student_quantile, wilson_interval


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (37, 50), (900, 1000)])
def test_wilson_interval_solves_its_equation(k, n):
    """The bounds p satisfy (k/n - p)^2 = z^2 p (1 - p) / n."""
    z = 1.959964
    for bound in wilson_interval(k, n):
        if 0 < bound < 1:
            assert (k / n - bound) ** 2 == pytest.approx(z * z * bound * (1 - bound) / n, rel=1e-6)
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 49])
def test_student_against_the_integral_of_its_density(freedom):
    t = student_quantile(freedom)
    grid = np.linspace(-t, t, 200_001)
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    scale = math.exp(log_scale) / math.sqrt(freedom * math.pi)
    density = scale * (1 + grid**2 / freedom) ** (-(freedom + 1) / 2)
    assert np.trapezoid(density, grid) == pytest.approx(0.95, abs=1e-7)


def test_student_covers_as_often_as_it_says():
    """Three seeds suffice, where a bootstrap covers three in four."""
    samples = np.random.default_rng(0).normal(5.0, 2.0, size=(4000, 3))
    covered = [low < 5 < high for low, high in map(student_interval, samples.tolist())]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)
