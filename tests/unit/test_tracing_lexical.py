"""What states the same thing: word overlap against a slow reference, BM25, hidden-state likeness, and fusion."""

from __future__ import annotations

import numpy as np
import pytest

from forwardinf_core.audits.tracing.lexical import LexicalIndex, fused, likeness, words_of

TEXTS = (
    "Paris is the capital of France.",
    "The capital of Italy is Rome.",
    "",
    "France won, and Paris is the place to be.",
    "باريس عاصمة فرنسا 🗼",
    "<script>alert(1)</script>",
)


def slow_overlap(text: str, query: str) -> int:
    own, asked = words_of(text), words_of(query)
    return max(
        (
            n
            for n in range(1, len(asked) + 1)
            for i in range(len(asked) - n + 1)
            if any(own[j : j + n] == asked[i : i + n] for j in range(len(own)))
        ),
        default=0,
    )


@pytest.mark.parametrize("query", ["Paris is the capital", "rome", "nothing here at all", "", "is Rome Paris is the"])
def test_overlap_is_the_longest_run_of_words_in_common(query: str) -> None:
    found = LexicalIndex(TEXTS).overlap(query)
    assert found.tolist() == [slow_overlap(text, query) for text in TEXTS]


def test_no_run_of_words_crosses_from_one_text_to_the_next() -> None:
    assert LexicalIndex(["one two", "three four"]).overlap("two three").tolist() == [1, 1]


def test_bm25_prefers_the_text_with_the_rare_words() -> None:
    found = LexicalIndex(TEXTS).bm25("The capital of Italy is")
    assert int(found.argmax()) == 1
    assert found[2] == 0


def test_bm25_of_unknown_words_is_zero_everywhere() -> None:
    assert not LexicalIndex(TEXTS).bm25("zebra quagga").any()
    assert not LexicalIndex(["", ""]).bm25("zebra").any()


def test_likeness_is_a_cosine_about_the_corpus_mean() -> None:
    texts = np.array([[2.0, 1.0], [0.0, 1.0], [1.0, 3.0]], np.float32)
    found = likeness(texts, np.array([2.0, 1.0], np.float32))
    assert found[0] == pytest.approx(1.0)
    assert found.max() <= 1.0 + 1e-6


def test_the_fused_ranking_follows_bm25_and_breaks_its_ties_by_influence() -> None:
    bm25 = np.array([2.0, 2.0, 1.0], np.float32)
    influence = np.array([0.1, 0.5, -1.0], np.float32)
    order = np.argsort(-fused(bm25, influence, np.zeros(3, np.float32), certainty=0.5))
    assert order.tolist() == [1, 0, 2]


def test_the_surer_the_model_is_the_more_its_own_rankings_weigh() -> None:
    bm25, nothing = np.array([2.0, 1.9, 1.0], np.float32), np.zeros(3, np.float32)
    influence = np.array([0.1, 0.5, -1.0], np.float32)
    np.testing.assert_allclose(fused(bm25, influence, influence, certainty=0.0), bm25 / 2.0)
    assert fused(bm25, influence, nothing, certainty=1.0).argmax() == 1
    assert fused(bm25, influence, nothing, certainty=0.01).argmax() == 0
    np.testing.assert_allclose(fused(bm25, influence, nothing, 0.25), bm25 / 2 + 0.125 * np.maximum(influence, 0) / 0.5)
