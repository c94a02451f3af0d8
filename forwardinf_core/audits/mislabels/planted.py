r"""How many labels are wrong, and how sure a rank is: wrong labels planted in a copy, as in capture and recapture.

A share ρ of the rows gets the label of another class in a copy, a class that the held-out heads find likely, because
people confuse what looks alike. Heads and neighbours judge the copy anew. Where s is a row's suspicion and q(s) the
share of planted rows at s (isotonic in s), the planted rows have density f_w, all rows f, and

    f_w(s) / f(s) = q (1 − ρ) / (ρ (1 − q)),        chance(s) = π f_w(s) / f(s),

with π, the share of wrong labels, read where nearly all rows are wrong: there planted and found ones stand in the
proportion ρ : (1 − ρ) π. It assumes that real errors are as easy to see as planted ones;
harder ones go uncounted. A network that has learnt the real errors, and none of the planted ones, makes them harder;
a judge that never learnt a label is then the better one to count with (``raised``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from forwardinf_core.audits.mislabels.opinions import Opinion

SHARE = 0.1  # of the rows that are planted
DRAWS = 3  # copies, so that chance in one of them does not decide
TOP_RECALL = 0.25  # π is read above the suspicion that so many planted rows reach: high enough to hold few right rows
BISECTIONS = 60


@dataclass(frozen=True)
class Planted:
    """A copy's labels, and which rows of it were made wrong."""

    labels: NDArray[np.int64]
    rows: NDArray[np.bool_]


def plant(labels: NDArray[np.int64], opinion: Opinion, seed: int) -> Planted:
    """Return a copy of the labels in which a share has another class, drawn by the held-out shares of each row."""
    generator = np.random.default_rng(seed)
    rows = np.zeros(len(labels), np.bool_)
    rows[generator.choice(len(labels), max(1, round(SHARE * len(labels))), replace=False)] = True
    classes, shares = opinion.classes.numpy(), opinion.log_shares.double().exp().numpy()
    # The root brings the classes nearer together: people err less predictably than a model.
    weights = np.where(classes == labels[:, None], 0.0, np.sqrt(shares) + 1e-6)
    reached = weights.cumsum(1)
    drawn = (generator.random(len(labels))[:, None] * reached[:, -1:] > reached).sum(1)
    others = classes[np.arange(len(labels)), drawn.clip(max=classes.shape[1] - 1)]
    return Planted(np.where(rows, others, labels), rows)


@dataclass(frozen=True)
class Calibration:
    """Chance that a label is wrong as a function of suspicion, and the share of wrong labels it was made with."""

    knots: NDArray[np.float64]
    chances: NDArray[np.float64]
    share: float

    @classmethod
    def fit(cls, suspicion: NDArray[np.float32], planted: NDArray[np.bool_]) -> Calibration:
        """Fit on the suspicion (n,) of the rows of one or more copies, and which of them were planted."""
        curve = IsotonicRegression(out_of_bounds="clip", y_min=0.0, y_max=1.0)
        q = np.asarray(curve.fit_transform(suspicion, planted), np.float64)
        rate = float(planted.mean())
        top = suspicion >= np.quantile(suspicion[planted], 1.0 - TOP_RECALL)
        highest = float(planted[top].mean())
        odds = q / np.maximum(1.0 - q, 1e-9)
        most = highest / max(1.0 - highest, 1e-9)
        # Where even the most suspicious rows are hardly more often planted than others, nothing can be told apart.
        share = float(np.clip(rate / max((1.0 - rate) * most, 1e-9), 0.0, 1.0))
        order = np.argsort(suspicion, kind="stable")
        chances = np.minimum(odds / max(most, 1e-9), 1.0)
        return cls(suspicion[order].astype(np.float64), chances[order], share)

    def chance(self, suspicion: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the chance (n,) that a label of this suspicion is wrong."""
        return np.interp(suspicion, self.knots, self.chances).astype(np.float32)


def raised(chance: NDArray[np.float32], count: float) -> NDArray[np.float32]:
    """Return the chances (n,) with all odds multiplied by one number, so that they sum to ``count``.

    They stay as they are where they sum to more already; chances of 0 stay 0.
    """
    if chance.sum() >= count:
        return chance
    odds = chance.astype(np.float64) / np.maximum(1.0 - chance, 1e-9)
    low, high = 1.0, 1e9
    for _ in range(BISECTIONS):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if (middle * odds / (1.0 + middle * odds)).sum() < count else (low, middle)
    return np.asarray(low * odds / (1.0 + low * odds), np.float32)
