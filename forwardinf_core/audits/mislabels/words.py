r"""Features of texts without training a network: which words and pairs of words a text holds, shortened to 300 numbers.

Counts are damped and weighted by rarity (tf-idf, Salton and Buckley 1988), shortened by a truncated singular value
decomposition (latent semantic analysis, Deerwester et al. 1990) and scaled to length 1. Labels play no part, so a wrong
one cannot be learnt by heart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor
from torch.nn import functional as F

WIDTH = 300  # chosen with pairs of words on text_agnews and text_sst2, which no reported figure uses
MOST_TERMS = 50_000  # the commonest; the decomposition holds WIDTH numbers for each
READ = 20_000  # characters of a text


def word_features(texts: Sequence[str], *, seed: int) -> Tensor | None:
    """Return (n, ≤ WIDTH) features of length 1, or None where hardly a word occurs in two texts."""
    counted = TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, max_features=MOST_TERMS, sublinear_tf=True, dtype=np.float32
    )
    try:
        terms = counted.fit_transform([text[:READ] for text in texts])
    except ValueError:  # no term is left
        return None
    width = min(WIDTH, terms.shape[0] - 1, terms.shape[1] - 1)
    if width < 2:
        return None
    with np.errstate(invalid="ignore"):  # it also divides by the variance of all terms, which may be 0
        shortened = TruncatedSVD(width, n_iter=3, random_state=seed).fit_transform(terms)
    return F.normalize(torch.from_numpy(np.ascontiguousarray(shortened, dtype=np.float32)), dim=1)
