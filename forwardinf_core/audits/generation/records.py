"""What tracing a generated image gives: frozen records, as pages and the command line read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forwardinf_core.influence.scores import ScoreTable


@dataclass(frozen=True, slots=True)
class Picture:
    """An image asked about: ``train:ID``, ``test:ID`` or ``image:KEY``, and the class or prompt it was made for.

    ``made`` says how it was generated (seed, steps, guidance), empty for one that was not generated here.
    """

    query: str
    label: int | str | None
    made: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """A finished trace: one signed score per training image, positive = helped to make the picture.

    ``scores`` hold NaN for rows outside a shortlist in ``score_full`` only; ``by_draw`` (n, draws) are the changes at
    each noise level and ``timesteps`` (n, draws) where those lie. ``pixel`` and ``feature`` (n,) are similarities to
    the picture, higher = more alike: what it looks like, not what made it.
    """

    run_id: str
    picture: Picture
    options: dict[str, str | int | float | bool | None]
    scores: ScoreTable
    by_draw: NDArray[np.float32]
    timesteps: NDArray[np.float32]
    pixel: NDArray[np.float32]
    feature: NDArray[np.float32]
    loss_before: float
    loss_after: float
    unchanged_max_abs_score: float
    seconds: float
