"""Mathematics of the latent slots: do their vectors share a subspace, are they told apart?

Everything here takes plain arrays, so that it also serves latents that come from elsewhere.
"""

from collections.abc import Sequence

import numpy as np


def fixed_rank(width: int, most: int = 8) -> int:
    """Returns the number of principal directions r for vectors of D numbers: 8, or D / 4 if less.

    The same r for every group and every run of one width: a rank chosen by the data, as many
    directions as hold 90 % of a group's variance say, would give groups of flat spectra a larger
    subspace, and a larger subspace captures more of anything. What r random directions capture is
    r / D on average; the limit of D / 4 keeps that far from 1.
    """
    return max(1, min(most, width // 4))


def principal_directions(vectors: np.ndarray, rank: int) -> np.ndarray | None:
    """Returns the directions of most variance of centred vectors (n, D).

    Returns:
        Orthonormal columns, float64 of shape (D, R), with R `rank` or, if less, the rank of the
        data; None where nothing varies, or where a number is not finite.
    """
    if not np.isfinite(vectors).all() or not vectors.any():
        return None
    variances, directions = np.linalg.eigh(vectors.T @ vectors)
    # beyond the rank of the data directions are arbitrary, and would capture by chance
    held = int((variances > 1e-10 * variances[-1]).sum())
    return np.asarray(directions[:, ::-1][:, : min(rank, held)])


def cross_capture(groups: Sequence[np.ndarray], rank: int) -> np.ndarray:
    """Measures how much of every group's variance lies in every group's principal subspace.

        C_ij = ||U_i^T X_j||_F^2 / ||X_j||_F^2

    with X_j the centred vectors of group j as columns and U_i the `rank` principal directions of
    group i. C_jj is the most that any subspace of that rank captures of group j, so groups that
    vary alike have C_ij close to C_jj, which is 1 only if r directions hold all of the variance.

    Source: cross-capture of latents in arXiv:2510.00494. This is the natural form of the idea; the
    definition used there (centring, rank, normalisation) could not be checked against the paper,
    so compare numbers of this function with each other, not with those printed there.

    Args:
        groups: G arrays of shape (n, D), centred.
        rank: r, principal directions of every group.

    Returns:
        float64 of shape (G, G), C_ij in [0, 1]; nan in the row and the column of a group that does
        not vary or is not finite.
    """
    subspaces = [principal_directions(group, rank) for group in groups]
    capture = np.full((len(groups), len(groups)), np.nan)
    for j, group in enumerate(groups):
        if subspaces[j] is None:
            continue
        total = (group**2).sum()
        for i, directions in enumerate(subspaces):
            if directions is not None:
                capture[i, j] = ((group @ directions) ** 2).sum() / total
    return capture


def mean_off_diagonal(capture: np.ndarray) -> float:
    """Returns H_off, the mean of C_ij over i != j; see `finite_mean`."""
    return finite_mean(capture[~np.eye(len(capture), dtype=bool)])


def finite_mean(values: np.ndarray) -> float:
    """Returns the mean of the values that are finite, nan if there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def silhouette(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean silhouette of clustered vectors: 1 far apart, 0 mingled, below 0 misplaced.

    With a_i the mean Euclidean distance of vector i to the others of its cluster and b_i the least
    mean distance to those of another cluster, s_i = (b_i - a_i) / max(a_i, b_i); s_i = 0 for a
    vector that is alone in its cluster, or where both are 0.

    Source: Rousseeuw 1987, Silhouettes, J. Comput. Appl. Math. 20.

    Args:
        vectors: of shape (n, D); those with numbers that are not finite are left out.
        labels: of shape (n,), the cluster of every vector.

    Returns:
        A number in [-1, 1]; nan with fewer than two clusters.
    """
    finite = np.isfinite(vectors).all(1)
    names, cluster, counts = np.unique(labels[finite], return_inverse=True, return_counts=True)
    if len(names) < 2:
        return float("nan")
    # centred, because the squares below cancel far from the origin
    centred = vectors[finite] - vectors[finite].mean(0)
    squares = (centred**2).sum(1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * centred @ centred.T, 0))
    np.fill_diagonal(distances, 0)
    sums = distances @ np.eye(len(names))[cluster]
    own = np.arange(len(cluster)), cluster
    inside = sums[own] / np.maximum(counts[cluster] - 1, 1)
    means = sums / counts
    means[own] = np.inf
    outside = means.min(1)
    larger = np.maximum(inside, outside)
    scores = np.where((counts[cluster] > 1) & (larger > 0), outside - inside, 0)
    return float((scores / np.where(larger > 0, larger, 1)).mean())


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Returns Spearman's rank correlation of two series (n,), equal values sharing their mean rank.

    Returns:
        A number in [-1, 1], of the pairs that are finite; nan where a series never changes.
    """
    from scipy.stats import spearmanr  # imported here: it takes half a second

    finite = np.isfinite(x) & np.isfinite(y)
    first, second = x[finite], y[finite]
    if len(set(first)) < 2 or len(set(second)) < 2:
        return float("nan")
    return float(spearmanr(first, second).statistic)
