"""Bad input to tracing, one test each: what is refused says so in a sentence, what can be read is read to its end."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forwardinf_core.audits.tracing.audit import TracingAudit
from forwardinf_core.audits.tracing.methods import trace_method
from forwardinf_core.errors import DataError
from forwardinf_core.models.language_text import pieces_of, prompt_of
from forwardinf_core.projects.language import open_language_project
from forwardinf_core.ui.tracing.listing import TOKENS_SHOWN, runs_of
from tests.unit.language_cases import TEXTS, tiny_model, write_project

PROMPT = "Paris is the capital of"
ODD = {
    "emoji": "Paris 🗼 is the capital 👩‍👩‍👧",
    "right to left": "باريس Paris is the capital",
    "NUL bytes": "Pa\x00ris is the capital",
    "one token": "x",
    "nothing": "",
    "markup": "<script>alert('Paris')</script>",
}
LONG_CHARACTERS = 400_000  # in a trace; the whole 10 MB are read once, below


def opened_with(folder: Path, texts: list[str]) -> TracingAudit:
    """Return a small trained model over other texts than it was trained on."""
    write_project(folder, epochs=20)
    pd.DataFrame({"id": [str(n) for n in range(len(texts))], "text": texts}).to_parquet(folder / "train.parquet")
    project = open_language_project(folder)
    return TracingAudit(project, project.load_model())


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> TracingAudit:
    return opened_with(tmp_path_factory.mktemp("odd"), [*ODD.values(), *TEXTS])


@pytest.mark.parametrize("name", list(ODD))
def test_an_odd_training_text_has_a_finite_score_and_its_tokens_are_itself(odd: TracingAudit, name: str) -> None:
    found = odd.trace(odd.question(odd.say(PROMPT, "France")))
    assert np.isfinite(found.scores.influence).all()
    position = list(ODD).index(name)
    shares = odd.tokens(found, position)
    assert "".join(share.text for share in shares).strip() == ODD[name].strip()


@pytest.mark.parametrize("name", ["emoji", "right to left", "NUL bytes", "markup"])
def test_an_odd_prompt_and_completion_can_be_asked_about(odd: TracingAudit, name: str) -> None:
    said = odd.say(ODD[name], ODD[name][:6])
    assert "".join(token.text for token in said.tokens).strip().startswith(ODD[name][:5])
    assert np.isfinite(odd.trace(odd.question(said)).scores.influence).all()


def test_a_completion_that_tokenises_to_nothing_is_refused(odd: TracingAudit) -> None:
    with pytest.raises(DataError, match="has no tokens of its own"):
        prompt_of(odd.model, PROMPT, "")


def test_a_prompt_of_only_spaces_and_one_beyond_the_context_are_refused(odd: TracingAudit) -> None:
    with pytest.raises(DataError, match="The prompt is empty"):
        odd.say(" \n")
    with pytest.raises(DataError, match="the model reads 48"):
        odd.say("word " * 500, "x")


def test_a_tokenizer_without_a_padding_token_traces_as_one_with_it(tmp_path: Path) -> None:
    audit = opened_with(tmp_path / "p", list(TEXTS))
    expected = audit.trace(audit.question(audit.say(PROMPT, "France")), trace_method("all-sgd")).scores.raw
    path = audit.folder / "model" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config.pop("pad_token")
    path.write_text(json.dumps(config))
    project = open_language_project(audit.folder)
    other = TracingAudit(project, project.load_model())
    assert other.model.tokenizer.pad_token_id is None
    found = other.trace(other.question(other.say(PROMPT, "France")), trace_method("all-sgd")).scores.raw
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_ten_megabytes_in_one_document_are_cut_into_pieces_in_seconds() -> None:
    text = ("The capital of Italy is Rome. Oxygen has the symbol O. " * 200_000)[: 10 * 1024**2]
    start = time.process_time()
    pieces = pieces_of(tiny_model(context=64), [text])
    assert time.process_time() - start < 60
    assert int(pieces.counted[0]) > 2_000_000
    assert max(pieces.lengths) == 64


def test_a_long_document_is_traced_and_opens_at_its_strongest_passage(tmp_path: Path) -> None:
    filler = "Oxygen has the symbol O. " * (LONG_CHARACTERS // 50)
    text = f"{filler}Paris is the capital of France. {filler}"
    audit = opened_with(tmp_path / "p", [text, *TEXTS])
    found = audit.trace(audit.question(audit.say(PROMPT, "France")), trace_method("head-sgd"))
    shares = audit.tokens(found, 0)
    shown = "".join(run.text for run in runs_of(shares))
    assert len(shares) > 10 * TOKENS_SHOWN
    moved = np.flatnonzero([share.score for share in shares])
    strongest, reach = int(found.scores.strongest[0]), 10 * audit.model.context
    assert len(moved)
    assert strongest - reach < moved.min()
    assert moved.max() < strongest + reach  # the pieces around it are read, and no others
    assert "…" in shown
