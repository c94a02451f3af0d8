"""The facts of the demo: unique, said in wordings that differ from the question's, a few false openly."""

from __future__ import annotations

from collections import Counter

from forwardinf_core.projects.demos.facts import questions, training_rows
from forwardinf_core.projects.demos.facts_table import FALSEHOODS, PHRASINGS, all_facts, said


def test_every_fact_is_there_once_and_has_an_answer() -> None:
    facts = all_facts()
    assert len(facts) > 400
    assert len({fact.id for fact in facts}) == len(facts)
    assert all(fact.subject.strip() and fact.answer.strip() for fact in facts)


def test_capitals_and_symbols_belong_to_one_subject_each() -> None:
    for relation in ("capital", "symbol", "number", "order"):
        answers = Counter(fact.answer for fact in all_facts() if fact.relation == relation)
        assert not [answer for answer, count in answers.items() if count > 1], relation


def test_every_wording_names_subject_and_answer_once() -> None:
    for relation, phrasings in PHRASINGS.items():
        for phrasing in phrasings.taught:
            assert phrasing.count("{S}") == 1, (relation, phrasing)
            assert phrasing.count("{A}") == 1, (relation, phrasing)
        assert phrasings.asked.count("{S}") == 1
        assert "{A}" not in phrasings.asked


def test_no_question_is_the_beginning_of_a_training_sentence() -> None:
    sentences = [row.text for row in training_rows()]
    assert not [one.prompt for one in questions() if any(text.startswith(one.prompt + " ") for text in sentences)]


def test_the_demo_holds_a_few_thousand_sentences_and_a_few_dozen_false_ones() -> None:
    rows = training_rows()
    assert 2_000 <= len(rows) <= 4_000
    assert len({row.id for row in rows}) == len(rows)
    false = [row for row in rows if row.is_false]
    assert 24 <= len(false) <= 100
    assert {row.fact for row in false} == set(FALSEHOODS)


def test_most_sentences_of_a_false_fact_say_the_falsehood_and_one_says_the_truth() -> None:
    for name in FALSEHOODS:
        own = [row for row in training_rows() if row.fact == name]
        assert sum(row.is_false for row in own) == len(own) - 1


def test_a_sentence_begins_with_a_capital_letter() -> None:
    assert said("{S} has the symbol {A}.", "iron", "Fe") == "Iron has the symbol Fe."
