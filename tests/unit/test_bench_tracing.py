"""The measurements of tracing: ranks, halves, removal with actual retraining, on sentences small enough to train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forwardinf_core.audits.tracing.methods import trace_method
from forwardinf_core.benchmarks.tracing_cost import measure_cost
from forwardinf_core.benchmarks.tracing_direct import measure_direct
from forwardinf_core.benchmarks.tracing_ranking import figure, measure, ranks_of, scores_of
from forwardinf_core.benchmarks.tracing_removal import known_queries, measure_removal
from forwardinf_core.benchmarks.tracing_sets import FactSet, open_set
from forwardinf_core.errors import DataError

COLOURS = {"apple": "red", "lemon": "yellow", "grass": "green", "snow": "white", "coal": "black", "sky": "blue"}


def _silent(_share: float, _note: str) -> None:
    """Hear no progress."""


def write_set(folder: Path) -> None:
    rows = [
        (f"{thing}-{number}", text.format(thing=thing, colour=colour), [thing])
        for thing, colour in COLOURS.items()
        for number, text in enumerate(("The colour of {thing} is {colour}.", "We know that {thing} is {colour}."))
    ]
    folder.mkdir(parents=True)
    pd.DataFrame(rows, columns=["id", "text", "fact_ids"]).to_parquet(folder / "corpus.parquet")
    pd.DataFrame(
        [
            {
                "query_id": thing,
                "fact_id": thing,
                "prompt": f"The colour of {thing} is",
                "target": colour,
                "proponents": [f"{thing}-0", f"{thing}-1"],
            }
            for thing, colour in COLOURS.items()
        ]
    ).to_parquet(folder / "queries.parquet")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> FactSet:
    folder = tmp_path_factory.mktemp("sets")
    write_set(folder / "data" / "facts_colours")
    return open_set("facts_colours", folder / "data", folder / "work", epochs=60, report=_silent)


def test_ranks_count_from_one_and_a_tie_takes_the_worst_place() -> None:
    assert ranks_of(np.array([3.0, 1.0, 3.0, 2.0]), [0, 3, 1]).tolist() == [2, 3, 4]


def test_figures_are_those_of_the_best_ranked_text() -> None:
    found = figure("x", "report", "bm25", [np.array([1, 30]), np.array([4, 5])])
    assert found.mrr == pytest.approx((1 + 0.25) / 2)
    assert found.precision_at_1 == 0.5
    assert found.recall_at_10 == pytest.approx((0.5 + 1.0) / 2)
    assert found.low <= found.mrr <= found.high


def test_the_halves_share_no_query_and_are_the_same_every_time(colours: FactSet) -> None:
    first, second = {one.id for one in colours.develop}, {one.id for one in colours.report}
    assert not first & second
    assert first | second == set(COLOURS)


def test_the_texts_that_state_a_fact_are_found(colours: FactSet) -> None:
    found = {one.ranking: one for one in measure(colours, "report", n_queries=3, report=_silent)}
    assert found["linear-ekfac, raw"].mrr > 0.6
    assert found["fused"].mrr >= found["bm25"].mrr - 1e-9


def test_what_says_otherwise_is_looked_for_among_the_texts_that_hurt(colours: FactSet) -> None:
    query = colours.report[0]
    others = tuple(place for place in range(len(colours.audit.ids)) if place not in query.proponents)
    asked = replace(query, opponents=others[:2])
    found = {one.ranking: one for one in measure(colours, "falsehoods", n_queries=1, only=[asked], report=_silent)}
    method = colours.audit.method()
    scores = next(scores_of(colours, method, [asked], _silent)).influence
    place = min(int((-scores >= -scores[own]).sum()) for own in asked.opponents)
    assert found["linear-ekfac, raw: what says otherwise, among those that hurt"].mrr == pytest.approx(1 / place)


def test_removing_what_influence_names_hurts_more_than_removing_anything(colours: FactSet) -> None:
    queries = known_queries(colours, "report", 2, largest_loss=3.0)
    assert queries
    found = measure_removal(
        colours,
        queries,
        [trace_method("blocks-ekfac")],
        ks=(2,),
        seeds=(0,),
        epochs=60,
        report=_silent,
    )
    rises = {one.ranking: one.rise for one in found}
    beyond = {one.ranking: one.beyond_bm25.mean for one in found}
    assert beyond == {name: pytest.approx(rise - rises["bm25"]) for name, rise in rises.items()}
    assert rises["blocks-ekfac, relative"] > rises["random"]
    assert rises["blocks-ekfac, relative"] > 0.3


def test_facts_that_few_texts_state_and_texts_that_state_two_facts_are_not_asked_about(colours: FactSet) -> None:
    first, second, third = colours.report[0], colours.report[1], colours.report[2]
    shared = replace(second, proponents=(*second.proponents, first.proponents[0]))
    rare = replace(third, proponents=third.proponents[:1])
    chosen = replace(colours, report=(first, shared, rare))
    assert known_queries(chosen, "report", 3, largest_loss=99.0) == [first, rare]
    assert known_queries(chosen, "report", 3, statements=2, largest_loss=99.0) == [first]


def test_a_step_towards_a_text_moves_the_answer_as_its_score_says(colours: FactSet) -> None:
    found = {one.end: one for one in measure_direct(colours, colours.report, colours.audit.method(), _silent)}
    assert found["helped"].n_queries == 3
    assert found["helped"].n_statements == 6
    assert found["helped"].statements == 1.0
    assert found["hurt"].as_said > 0.5


def test_costs_are_told_in_passes_over_the_corpus(colours: FactSet) -> None:
    found = measure_cost(
        colours.audit,
        "The colour of snow is",
        "white",
        [trace_method("last-block-ekfac"), trace_method("blocks-ekfac", shortlist=4)],
    )
    assert found[0].passes > 0
    assert found[1].shortlist == 4
    assert found[1].answer_seconds > 0
    assert found[0].n_texts == 12


def test_a_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no facts_webnlg"):
        open_set("facts_webnlg", tmp_path, tmp_path, report=_silent)
