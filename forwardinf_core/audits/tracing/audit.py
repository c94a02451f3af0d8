"""An open project of a language model: completions, traces, tokens of texts, groups. For any number of threads."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch

from forwardinf_core.audits.tracing.methods import SCOPES, TraceMethod, method_names, usual_method
from forwardinf_core.audits.tracing.preparation import Report, Workplace, silent
from forwardinf_core.audits.tracing.records import Group, Said, TokenShare, Trace, TraceScores
from forwardinf_core.audits.tracing.scoring import piece_scores, score_texts, step_on, token_shares
from forwardinf_core.errors import AuditError
from forwardinf_core.influence.update import Update
from forwardinf_core.models.language import LanguageModel
from forwardinf_core.models.language_completion import alternatives, complete, losses_of_tokens, tokens_of
from forwardinf_core.models.language_text import Prompt, joined, prompt_of
from forwardinf_core.projects.demos.facts import FactsTruth, facts_truth
from forwardinf_core.projects.language import LanguageProject
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.runs import RunRecord, find_run, open_run, save_run

KIND = "trace"
VERSION = 4  # rises when the same options would give other scores
UPDATES_KEPT = 16
QUICK_TOKENS = 3_000_000  # tokens of a corpus that are scored while a person waits
COLUMNS = ("influence", "raw", "bm25", "embedding", "overlap", "fused", "loss", "strongest", "exact")


@dataclass(frozen=True)
class Question:
    """What is asked: one prompt or a set, each with a completion; ``span`` are tokens of a single one."""

    prompts: tuple[str, ...]
    completions: tuple[str, ...]
    span: tuple[int, ...] = ()


@dataclass(frozen=True)
class MethodChoice:
    """A method as a person chooses it."""

    name: str
    title: str
    words: str


class TracingAudit:
    """A language model and its training texts, ready to be asked."""

    def __init__(self, project: LanguageProject, model: LanguageModel) -> None:
        self.project = project
        self.model = model
        self.place = Workplace(model, project.texts, project.audit_dir / "caches")
        self._updates: OrderedDict[str, Update] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def project_name(self) -> str:
        """What project.yaml calls it."""
        return self.project.config.name

    @property
    def folder(self) -> Path:
        """The project's folder, as its jobs name it."""
        return self.project.root

    @property
    def task(self) -> str:
        """causal-lm or seq2seq-lm."""
        return self.project.config.task

    @property
    def ids(self) -> Sequence[str]:
        """Ids of the training texts."""
        return self.project.texts.ids

    @property
    def texts(self) -> Sequence[str]:
        """The training texts."""
        return self.project.texts.texts

    @cached_property
    def truth(self) -> FactsTruth | None:
        """What is known of a demo because it was written; None for a person's own project."""
        return facts_truth(self.project.root)

    def suggestions(self, count: int = 12) -> tuple[str, ...]:
        """Return prompts to begin with: evenly spread over those project.yaml names, falsehoods of a demo first."""
        if self.truth is not None:
            asked = self.truth.questions
            false = [one.prompt for one in asked if one.taught != one.completion]
            rest = [one.prompt for one in asked if one.taught == one.completion]
            step = max(1, len(rest) // max(count - 3, 1))
            return (*rest[::step][: count - 3], *false[:3])
        prompts = self.project.prompts
        if prompts is None:
            return ()
        return tuple(list(prompts.texts)[:: max(1, len(prompts) // count)][:count])

    def methods(self) -> list[MethodChoice]:
        """Return the ways of tracing this model allows."""
        chosen = [self.method(name) for name in method_names()]
        return [MethodChoice(one.name, f"{SCOPES[one.scope]}, {one.step}", one.words) for one in chosen]

    def say(self, prompt: str, completion: str | None = None, span: Sequence[int] = ()) -> Said:
        """Return prompt and completion token by token; without a completion the model gives its own.

        Raises DataError, in a sentence, for what cannot be asked.
        """
        own = completion is None
        with self.place.alone:
            said = complete(self.model, prompt) if completion is None else completion
            if own and not said:
                raise AuditError(
                    "The model has nothing to say after this prompt.", hint="Type the completion you want explained."
                )
            asked = prompt_of(self.model, prompt, said, span)
            n_prompt = len(prompt) if self.model.task == "causal-lm" else 0
            tokens = tokens_of(self.model, asked, n_prompt)
            loss = float(losses_of_tokens(self.model, asked.batch()).sum())
            return Said(prompt, said, own, tokens, asked.target, alternatives(self.model, prompt), loss)

    def question(self, said: Said) -> Question:
        """Return what is asked by a prompt with its completion and target tokens."""
        return Question((said.prompt,), (said.completion,), said.target)

    def stored(self, question: Question, method: TraceMethod) -> Trace | None:
        """Return a finished answer, None where it must be computed."""
        found = find_run(self.project, KIND, self._key(question, method))
        return None if found is None else self._opened(found, question)

    def open_trace(self, run_id: str) -> Trace:
        """Return a finished answer by the id of its run. Raises RunNotFoundError."""
        record = open_run(self.project, run_id)
        kept = record.options["question"]
        assert isinstance(kept, dict)
        return self._opened(record, _question_of(kept))

    def is_quick(self, method: TraceMethod) -> bool:
        """Say whether an answer takes seconds: all it needs is on disk, and the corpus is not large."""
        n_tokens = self.n_tokens
        return (n_tokens <= QUICK_TOKENS or method.shortlist > 0) and self.place.is_ready(method)

    @cached_property
    def n_tokens(self) -> int:
        """Tokens of the corpus, read and said."""
        return sum(self.place.pieces.lengths)

    def method(self, name: str = "", **options: object) -> TraceMethod:
        """Return a method as it is asked here: with a shortlist where the corpus is large. Raises AuditError."""
        return usual_method(self.n_tokens, name, **options)

    def trace(self, question: Question, method: TraceMethod | None = None, report: Report = silent) -> Trace:
        """Return the answer: read back where it is stored, else computed here and kept."""
        chosen = method or self.method()
        known = self.stored(question, chosen)
        if known is not None:
            return known
        prompts = self._prompts(question)
        words = " ".join(
            joined(prompt, said) for prompt, said in zip(question.prompts, question.completions, strict=True)
        )
        with self.place.alone:
            scored = score_texts(self.place, chosen, prompts, words, report)
        key = self._key(question, chosen)
        self._keep(key, scored.update)
        frame = pd.DataFrame({"id": list(self.ids)} | {name: getattr(scored.scores, name) for name in COLUMNS})
        summary: dict[str, Option] = {
            "rise": scored.update.rise,
            "step_length": scored.update.step_length,
            "loss_before": scored.update.loss_before,
            "loss_after": scored.update.loss_after,
            "uses_hidden": self.place.uses_hidden(chosen),
            "seconds": {name: round(value, 4) for name, value in scored.seconds.items()},
        }
        options: dict[str, Option] = {"question": _record(asdict(question)), "method": _record(asdict(chosen))}
        record = save_run(self.project, KIND, key, options=options, summary=summary, frames={"scores": frame})
        return self._opened(record, question)

    def tokens(self, trace: Trace, position: int) -> tuple[TokenShare, ...]:
        """Return the tokens of one training text with what each adds to its score."""
        question, method = self._asked(trace)
        key = self._key(question, method)
        with self._lock:
            update = self._updates.get(key)
        around = int(trace.scores.strongest[position])
        with self.place.alone:
            if update is None:
                update = step_on(self.place, method, self._prompts(question))
                self._keep(key, update)
            return token_shares(self.place, method, update, position, around=around)

    def groups(self, trace: Trace, column: str) -> list[Group]:
        """Return the texts by the values of a column with their summed influence, most helpful group first.

        Sums are of the change of the texts' losses: shares of single losses do not add up.
        """
        values = np.array(self.project.texts.column(column), dtype=object)
        names, codes = np.unique(values.astype(str), return_inverse=True)
        total = np.bincount(codes, trace.scores.raw, len(names))
        helped = np.bincount(codes, trace.scores.raw > 0, len(names))
        sizes = np.bincount(codes, minlength=len(names))
        order = np.argsort(-total, kind="stable")
        return [Group(str(names[i]), int(sizes[i]), float(total[i]), int(helped[i])) for i in order.tolist()]

    def group_columns(self) -> tuple[str, ...]:
        """Return the columns by which texts may be filtered and grouped: few values, more than one."""
        found = []
        for name in self.project.texts.columns:
            n_values = len(set(self.project.texts.column(name)))
            if 1 < n_values <= max(200, len(self.ids) // 4):
                found.append(name)
        return tuple(found)

    def states(self, said: Said, position: int) -> str:
        """Return what is known of a text of a demo for this question: states the fact, false on purpose, or nothing."""
        truth = self.truth
        if truth is None:
            return ""
        asked = next((one for one in truth.questions if one.prompt == said.prompt), None)
        own_id = self.ids[position]
        if own_id in truth.false_rows:
            return "False on purpose"
        if asked is not None and truth.fact_of_row[own_id] == asked.fact:
            return "States this fact"
        return ""

    def _prompts(self, question: Question) -> list[Prompt]:
        pairs = list(zip(question.prompts, question.completions, strict=True))
        if not pairs:
            raise AuditError("There is no prompt to ask about.", hint="Give at least one.")
        return [prompt_of(self.model, prompt, said, question.span if len(pairs) == 1 else ()) for prompt, said in pairs]

    def _keep(self, key: str, update: Update) -> None:
        with self._lock:
            self._updates[key] = update
            while len(self._updates) > UPDATES_KEPT:
                self._updates.popitem(last=False)

    def _key(self, question: Question, method: TraceMethod) -> str:
        # the span that is meant without one is the whole completion: both are the same question
        spans = [list(prompt.target) for prompt in self._prompts(question)]
        options: dict[str, Option] = {
            "question": _record(asdict(question) | {"span": spans}),
            "method": _record(asdict(method)),
        }
        prints = {"model": self.model.fingerprint, "texts": self.project.texts.fingerprint}
        return Binding(KIND, prints, options, VERSION).key()

    def _asked(self, trace: Trace) -> tuple[Question, TraceMethod]:
        kept, chosen = trace.options["question"], trace.options["method"]
        assert isinstance(kept, dict)
        assert isinstance(chosen, dict)
        return _question_of(kept), TraceMethod(**chosen)  # type: ignore[arg-type]

    def _opened(self, record: RunRecord, question: Question) -> Trace:
        frame = record.frame("scores")
        scores = TraceScores(**{name: frame[name].to_numpy() for name in COLUMNS})
        said = self.say(
            question.prompts[0], question.completions[0], question.span if len(question.prompts) == 1 else ()
        )
        method, seconds = record.options["method"], record.summary["seconds"]
        assert isinstance(method, dict)
        assert isinstance(seconds, dict)
        rise = record.summary["rise"]
        assert isinstance(rise, float)
        return Trace(
            record.id,
            said,
            str(method["name"]),
            record.options,
            scores,
            rise,
            {name: float(cast("float", value)) for name, value in seconds.items()},
        )


def unchanged_control(audit: TracingAudit, method: TraceMethod, question: Question) -> float:
    """Return the largest |score| of a text under an unchanged model: 0, or the machinery is wrong."""
    update = step_on(audit.place, method, audit._prompts(question))
    still = replace(update, changes={name: torch.zeros_like(value) for name, value in update.changes.items()})
    return float(piece_scores(audit.place, method, audit.place.batches[0], still).abs().max())


def _record(values: dict[str, object]) -> dict[str, Option]:
    found = json.loads(json.dumps(values))
    assert isinstance(found, dict)
    return found


def _question_of(kept: dict[str, Option]) -> Question:
    prompts, completions, span = kept["prompts"], kept["completions"], kept["span"]
    assert isinstance(prompts, list)
    assert isinstance(completions, list)
    assert isinstance(span, list)
    return Question(
        tuple(str(one) for one in prompts),
        tuple(str(one) for one in completions),
        tuple(int(cast("int", i)) for i in span),
    )
