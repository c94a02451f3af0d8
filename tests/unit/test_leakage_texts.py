"""Copies of texts: the normal form, MinHash, planted alterations, verdicts, and the words two texts differ in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.leakage import report
from forwardinf_core.audits.leakage.altered_texts import KINDS, altered
from forwardinf_core.audits.leakage.checks import check_rows
from forwardinf_core.audits.leakage.difference import MOST_WORDS, difference
from forwardinf_core.audits.leakage.records import EXACT, NONE, OTHER_LABEL, Leakage
from forwardinf_core.audits.leakage.verdicts import reasons_of
from forwardinf_core.audits.leakage.wordings import HASHES, is_same_text, letter_bits, normal_form, word_bits
from forwardinf_core.benchmarks.paraphrases import paraphrased
from forwardinf_core.cli import main
from forwardinf_core.datasets.views import Subset
from forwardinf_core.errors import DataError
from tests.unit.text_cases import COPY, PLANTED_TEXT, QUERY, WRONG_COPY

TEXT = "Who was the first woman to fly alone over the Atlantic ocean ?"


@pytest.fixture(scope="module")
def found(text_audit: Audit) -> Leakage:
    return report.run(text_audit)


def jaccard(first: set[str], second: set[str]) -> float:
    return len(first & second) / len(first | second)


def test_the_normal_form_forgets_case_punctuation_and_spaces_and_nothing_else() -> None:
    assert normal_form("  Who  WAS\n«Faust» ?! ") == "who was faust"
    assert normal_form("ﬁne ① ＡＢ") == "fine 1 ab"
    assert normal_form("हिन्दी") == "हिन्दी"
    assert not is_same_text("Who was Faust", "Who was first")
    assert not is_same_text("?!", "...")
    assert is_same_text("?!", "?!")


def test_the_product_of_two_hashes_estimates_the_jaccard_index_of_their_words() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(60)]
    texts = [" ".join(rng.choice(words, 30, replace=False)) for _ in range(40)]
    bits = word_bits(texts) / np.sqrt(HASHES)
    exact = np.asarray([[jaccard(set(a.split()), set(b.split())) for b in texts] for a in texts])
    assert np.abs(bits @ bits.T - exact).max() < 5 * 0.045  # five deviations over 780 pairs
    assert abs((bits @ bits.T - exact)[np.triu_indices(40, 1)].mean()) < 0.03  # all pairs share one choice of hashes
    assert np.allclose(np.diag(bits @ bits.T), 1)


@pytest.mark.parametrize("text", ["", " ?! ", "a", "\x00", "🙂", "שלום", "\ud800"])
def test_any_text_has_hashes_and_one_without_letters_is_like_nothing(text: str) -> None:
    assert letter_bits([text]).shape == (1, HASHES)
    if not normal_form(text):
        assert not letter_bits([text]).any()
        assert not word_bits([text]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_an_altered_text_differs_repeats_with_its_seed_and_stays_likest_to_its_origin(kind: str) -> None:
    first, again = (altered(TEXT, kind, np.random.default_rng(3)) for _ in range(2))
    assert first == again != TEXT
    others = ["Who was the first man on the moon ?", "How deep is the Atlantic ocean ?"]
    bits = letter_bits([first, TEXT, *others])
    assert (bits[0] @ bits[1]) > max(bits[0] @ bits[2], bits[0] @ bits[3])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["", " ", "a", "two words"])
def test_short_and_empty_texts_can_be_altered(kind: str, text: str) -> None:
    assert isinstance(altered(text, kind, np.random.default_rng(0)), str)


def test_a_text_found_in_training_is_an_exact_copy_with_its_label_said(text_audit: Audit, found: Leakage) -> None:
    (pair,) = report.pairs_of(text_audit, found, [f"test:{QUERY}"])
    assert (pair.verdict, pair.score) == (EXACT, 1.0)
    assert text_audit.train_ids[pair.train] in {COPY, WRONG_COPY}
    assert "say the same" in " ".join(reasons_of(pair))


def test_every_word_for_word_repeat_is_called_an_exact_copy_and_no_other_row(text_audit: Audit, found: Leakage) -> None:
    known = {normal_form(text_audit.text("train", number)) for number in range(len(text_audit.train_ids))}
    for number, pair in enumerate(found.pairs):
        assert (pair.verdict == EXACT) == (normal_form(text_audit.text("test", number)) in known)


def test_both_copies_and_the_test_row_are_one_group_with_a_conflict(text_audit: Audit, found: Leakage) -> None:
    test = text_audit.test_ids.index(QUERY)
    (group,) = [group for group in found.groups if test in group.test]
    assert {text_audit.train_ids[one] for one in group.train} >= {COPY, WRONG_COPY}
    assert group.has_conflict


def test_a_typed_text_is_recognised_however_it_is_typed(text_audit: Audit, found: Leakage) -> None:
    query = text_audit.add_text(PLANTED_TEXT.upper().replace(" ", "  "))
    (pair,) = report.pairs_of(text_audit, found, [query])
    assert text_audit.train_ids[pair.train] in {COPY, WRONG_COPY}
    assert (pair.verdict, pair.score, pair.is_mirrored) == (EXACT, 1.0, False)


def test_the_check_on_planted_texts_is_stored_with_the_run(found: Leakage) -> None:
    assert set(found.alone) == {"letters", "words", "features"}
    assert set(found.check["by_kind"]) == set(KINDS)  # type: ignore[call-overload]
    assert float(found.check["top1"]) > 0.8  # type: ignore[arg-type]


def test_the_command_writes_the_agreed_columns_for_texts(
    text_audit: Audit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["leakage", str(text_audit.folder), "--scores", str(tmp_path / "out.parquet"), "--json"]
    assert main(arguments) == 0
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert list(table.columns) == ["test_id", "train_id", "score", "verdict"]
    said = json.loads(capsys.readouterr().out)
    assert said["verdicts"][EXACT] + said["verdicts"][NONE] <= len(table)
    assert main(["leakage", str(text_audit.folder), "--query", PLANTED_TEXT, "--json"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)["pairs"]
    assert pair["verdict"] == EXACT


def test_training_texts_that_are_all_the_same_are_refused_in_a_sentence(text_audit: Audit) -> None:
    class Repeated(Subset):  # type: ignore[type-arg]
        @property
        def digests(self) -> np.ndarray:
            return np.repeat(super().digests[:1], len(self), axis=0)

    train = Repeated(text_audit.train, np.arange(30))
    with pytest.raises(DataError, match="All training rows are the same text"):
        check_rows(Audit(text_audit.project, text_audit.model, train, text_audit.test))


def test_words_that_only_one_text_has_are_marked_and_nothing_is_lost() -> None:
    left, right = "Who built the <b>old</b> castle of Fulda ?", "who built the new castle\nof  Fulda, then?"
    found = difference(left, right)
    assert "".join(piece.text for piece in found.left) == left
    assert "".join(piece.text for piece in found.right) == right
    assert [piece.text.strip() for piece in found.left if piece.is_own] == ["<b>old</b>", "?"]
    assert [piece.text.split() for piece in found.right if piece.is_own] == [["new"], ["then?"]]
    assert (found.shared, found.n_left, found.is_cut) == (6, 8, False)


def test_of_long_texts_the_beginnings_are_compared() -> None:
    long = "word " * (MOST_WORDS + 5)
    assert difference(long, "word").is_cut
    assert difference("", "").left == ()


def test_paraphrases_by_rule_need_two_rules() -> None:
    assert paraphrased("Who was the author of Faust ?") is None
    said = paraphrased("Who invented the big machine and died in town ?")
    assert said == "Who came up with the large machine as well as passed away in town ?"


def test_conflicting_labels_are_said(text_audit: Audit, found: Leakage) -> None:
    wrong = text_audit.train_ids.index(WRONG_COPY)
    for pair in found.pairs:
        if pair.train == wrong and pair.label != pair.train_label:
            assert pair.labels == OTHER_LABEL
            assert "They carry conflicting labels." in reasons_of(pair)
