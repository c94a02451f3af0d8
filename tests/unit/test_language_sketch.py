"""Codes of gradients: their products are the scores of a short step, and shortlists find what passes would find."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from forwardinf_core.audits.tracing.audit import TracingAudit
from forwardinf_core.audits.tracing.methods import SHORTLIST, WHOLE_TOKENS, trace_method, usual_method
from forwardinf_core.audits.tracing.scoring import score_texts, shortlisted, step_on, taken_in_turn
from forwardinf_core.errors import AuditError
from forwardinf_core.influence.language_sketch import drawn_sketch
from forwardinf_core.projects.language import open_language_project
from tests.unit.language_cases import TEXTS, write_project

PROMPT = "Paris is the capital of"


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> TracingAudit:
    project = open_language_project(write_project(tmp_path_factory.mktemp("sentences")))
    return TracingAudit(project, project.load_model())


@pytest.mark.parametrize("name", ["blocks-ekfac", "blocks-diagonal", "linear-ekfac"])
def test_a_code_as_wide_as_the_matrices_gives_the_first_order_score(audit: TracingAudit, name: str) -> None:
    """With orthogonal signs in place of random ones nothing is lost: code · code = G · δ."""
    method, place = trace_method(name, rise=0.01, direction="central"), audit.place
    curvature = place.curvature(method)
    assert curvature is not None
    sketch = drawn_sketch(curvature, damping=method.damping)
    whole = {key: (torch.eye(len(left)), torch.eye(len(right))) for key, (left, right) in sketch.signs.items()}
    sketch = replace(sketch, signs=whole)
    prompts = audit._prompts(audit.question(audit.say(PROMPT)))
    update = step_on(place, method, prompts)
    batch = place.pieces.batch(range(len(place.pieces)))
    found = sketch.of_texts(audit.model.module, audit.model.objective, batch) @ sketch.of_change(update.changes)
    exact = score_texts(place, replace(method, form="raw"), prompts, PROMPT).scores.raw
    by_document = place.by_document(found).numpy()
    np.testing.assert_allclose(by_document, exact, rtol=0.05, atol=0.02 * np.abs(exact).max())


def test_random_signs_keep_products_on_average(audit: TracingAudit) -> None:
    method, place = trace_method("blocks-ekfac"), audit.place
    curvature = place.curvature(method)
    assert curvature is not None
    batch = place.pieces.batch(range(len(place.pieces)))
    module, objective = audit.model.module, audit.model.objective
    own = curvature.self_influences(module, objective, batch, damping=method.damping)
    norms = []
    for seed in range(20):
        sketch = drawn_sketch(curvature, damping=method.damping, side=8, seed=seed)
        norms.append(sketch.of_texts(module, objective, batch).square().sum(1))
    torch.testing.assert_close(torch.stack(norms).mean(0), own, rtol=0.25, atol=0)


def test_a_shortlist_holds_what_codes_words_and_hidden_states_name_first(audit: TracingAudit, tmp_path: Path) -> None:
    method = trace_method("blocks-ekfac", shortlist=4)
    prompts = audit._prompts(audit.question(audit.say(PROMPT)))
    few = score_texts(audit.place, method, prompts, PROMPT).scores
    every = score_texts(audit.place, replace(method, shortlist=0), prompts, PROMPT).scores
    assert every.exact.all()
    assert few.exact.sum() == 4
    np.testing.assert_allclose(few.influence[few.exact], every.influence[few.exact], rtol=1e-3, atol=1e-6)
    assert few.influence.argmax() == every.influence.argmax()
    assert TEXTS[int(few.influence.argmax())].startswith("Paris is the capital")
    nothing = np.zeros(len(TEXTS), np.float32)
    for place in (0, 1):
        beside = [nothing, nothing]
        beside[place] = np.array([text == "Oxygen has the symbol O." for text in TEXTS], np.float32)
        chosen = shortlisted(audit.place, method, torch.zeros(len(audit.place.pieces)), beside)
        assert chosen[TEXTS.index("Oxygen has the symbol O.")]


def test_orders_take_their_next_in_turn_until_the_list_is_full() -> None:
    orders = [np.array([0, 1, 2, 3, 4]), np.array([1, 0, 4, 2, 3]), np.array([4, 3, 2, 1, 0])]
    assert np.flatnonzero(taken_in_turn(orders, 2)).tolist() == [0, 1]
    assert np.flatnonzero(taken_in_turn(orders, 3)).tolist() == [0, 1, 4]
    assert np.flatnonzero(taken_in_turn(orders, 4)).tolist() == [0, 1, 3, 4]
    assert taken_in_turn(orders, 9).all()


def test_only_texts_that_passed_through_the_model_are_called_helpful(audit: TracingAudit) -> None:
    found = audit.trace(audit.question(audit.say(PROMPT)), trace_method("blocks-ekfac", shortlist=2))
    assert found.caveat.startswith(f"Only 2 of {len(audit.ids)} texts passed")
    assert not audit.trace(audit.question(audit.say(PROMPT)), trace_method("blocks-ekfac")).caveat
    shown = [*found.helped(6).tolist(), *found.hurt(6).tolist()]
    assert found.scores.exact[shown].all()
    again = audit.open_trace(found.run_id)
    np.testing.assert_array_equal(again.scores.exact, found.scores.exact)


def test_large_corpora_get_a_shortlist_and_small_ones_none() -> None:
    assert usual_method(WHOLE_TOKENS).shortlist == 0
    assert usual_method(WHOLE_TOKENS + 1).shortlist == SHORTLIST
    assert usual_method(WHOLE_TOKENS + 1, shortlist=0).shortlist == 0
    assert usual_method(WHOLE_TOKENS + 1, "all-sgd").shortlist == 0
    with pytest.raises(AuditError, match="cannot be made"):
        trace_method("all-sgd", shortlist=5)
    with pytest.raises(AuditError, match="cannot be made"):
        trace_method("blocks-ekfac", shortlist=-1)


def test_codes_are_kept_and_the_method_is_ready_only_with_them(audit: TracingAudit) -> None:
    method = trace_method("mlps-ekfac", shortlist=3)
    audit.place.prepare(replace(method, shortlist=0))
    assert not audit.place.is_ready(method)
    audit.place.prepare(method)
    assert audit.place.is_ready(method)
    assert len(audit.place.codes(method).values) == len(audit.place.pieces)
