"""The convex baseline (MixMin, Thudi et al. 2025, arXiv 2502.10510): one model a pool, and the weights with which the average
of their probabilities predicts the target best. No mixture is trained; what pools have in common is not seen."""

from __future__ import annotations

import numpy as np

ROUNDS = 500


def mixmin(log_probabilities: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Weights [K] that maximise ``sum(counts * log(weights @ probabilities))``, by expectation maximisation, which converges to
    the one optimum.

    Args:
        log_probabilities: float64 [K, N], of what each pool's model says of N tokens.
        counts: float64 [N], how much each token counts.
    """
    likely = np.exp(log_probabilities - log_probabilities.max(axis=0))
    weights = np.full(len(likely), 1 / len(likely))
    for _ in range(ROUNDS):
        blamed = weights[:, None] * likely
        blamed /= blamed.sum(axis=0)
        before, weights = weights, (blamed * counts).sum(axis=1) / counts.sum()
        if float(np.abs(weights - before).max()) < 1e-7:
            break
    return np.asarray(weights)
