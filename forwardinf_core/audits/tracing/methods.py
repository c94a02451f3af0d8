"""The ways to trace a completion: which parameters a step moves, through which curvature, and how scores are read.

A name is SCOPE-STEP: ``blocks-ekfac``. Defaults were chosen on one half of the queries of the fact-tracing sets and are
reported on the other (docs/tracing.md).
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, replace
from typing import Literal, cast

from forwardinf_core.errors import AuditError
from forwardinf_core.influence.language import Reduction
from forwardinf_core.influence.language_parts import LanguageScope
from forwardinf_core.influence.update import StepOptions

Step = Literal["sgd", "adam", "diagonal", "ekfac"]
Form = Literal["raw", "normalised", "relative"]

SCOPES: dict[LanguageScope, str] = {
    "head": "the head",
    "last-block": "the last block",
    "mlps": "the MLPs of all blocks",
    "blocks": "all blocks",
    "linear": "all blocks and the head, with the embedding where both are one",
    "all": "all parameters",
}
STEPS: dict[Step, str] = {
    "ekfac": "a step through the curvature of the training loss (EK-FAC)",
    "diagonal": "a step through the diagonal of the curvature",
    "sgd": "a plain gradient step",
    "adam": "one step of Adam",
}
FORMS: dict[Form, str] = {
    "raw": "the change of the text's loss",
    "normalised": "the change of the text's loss as a share of the loss itself, (u − o)/(u + o)",
    "relative": "the change of the text's loss by how strongly the text moves the model whatever is asked",
}
DAMPING: dict[Step, float] = {"ekfac": 0.1, "diagonal": 0.1, "sgd": 0.0, "adam": 0.0}
DEFAULT = "linear-ekfac"
FINITE: dict[str, object] = {"form": "raw", "direction": "ascent", "rise": 5.0}  # of the default: docs/tracing.md
FAR = 1.0  # rise from which rounding of losses, about 1e-6 a token, is nothing beside their change
SHORTLIST = 500  # texts of a large corpus that pass through the model
WHOLE_TOKENS = 200_000  # tokens of a corpus up to which all of it passes: a few seconds


@dataclass(frozen=True)
class TraceMethod:
    """One way to score, with every option that changes a score.

    ``relative`` needs a curvature. With ``reduction`` mean a text's score is per token, else summed over its tokens.
    ``rise`` is how far the step moves the log-odds of a target of one token; those of n tokens move √n times as far.
    """

    name: str
    scope: LanguageScope
    step: Step
    form: Form = "relative"
    direction: Literal["ascent", "descent", "central"] = "central"
    damping: float = 0.1  # of the mean of the Fisher's diagonal
    rise: float = 0.01
    reduction: Reduction = "sum"
    fisher_texts: int = 2_000
    shortlist: int = 0  # texts that pass through the model, the first by codes, BM25 and likeness; 0 = all

    @property
    def curvature(self) -> Literal["diagonal", "ekfac"] | None:
        """The kind of curvature the step needs, None for a gradient step."""
        return self.step if self.step in ("diagonal", "ekfac") else None

    @property
    def is_far(self) -> bool:
        """Say whether the step is so long that a text's loss after it can be compared with its loss before."""
        return self.rise >= FAR and self.direction != "central"

    @property
    def words(self) -> str:
        """The method in words."""
        few = ""
        if self.shortlist:
            few = f" Of all texts {self.shortlist:,} pass through the model: the first by codes, BM25 and likeness."
        return f"{STEPS[self.step][0].upper()}{STEPS[self.step][1:]} on {SCOPES[self.scope]}; {FORMS[self.form]}.{few}"

    def step_options(self, n_tokens: float = 1.0) -> StepOptions:
        """Return how the step is taken for a target of so many tokens, in the mean over the questions."""
        kind: Literal["sgd", "adam", "curvature"] = "curvature" if self.curvature else cast("Literal['sgd']", self.step)
        return StepOptions(
            method=kind, direction=self.direction, rise=self.rise * math.sqrt(n_tokens), damping=self.damping
        )


def method_names() -> tuple[str, ...]:
    """Return the names of all methods."""
    return tuple(f"{scope}-{step}" for scope in SCOPES for step in STEPS if scope != "all" or step in ("sgd", "adam"))


def trace_method(name: str, **options: object) -> TraceMethod:
    """Return a method by name with its defaults, some of them changed. Raises AuditError for a name there is not."""
    names = method_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise AuditError(
            f"There is no way of tracing called {name}.",
            hint=(f"Did you mean {near[0]}? " if near else "") + f"There are: {', '.join(names)}.",
        )
    scope, _, step = name.rpartition("-")
    chosen = TraceMethod(name, cast("LanguageScope", scope), cast("Step", step), damping=DAMPING[cast("Step", step)])
    if chosen.curvature is None:
        chosen = replace(chosen, form="normalised")
    if name == DEFAULT:
        chosen = replace(chosen, **FINITE)  # type: ignore[arg-type]
    chosen = replace(chosen, **{key: value for key, value in options.items() if value is not None})  # type: ignore[arg-type]
    if chosen.form not in FORMS or chosen.reduction not in ("sum", "mean"):
        raise AuditError(
            f"Scores cannot be read as {chosen.form} with {chosen.reduction}.",
            hint=f"form is one of {', '.join(FORMS)}, reduction sum or mean.",
        )
    if chosen.form == "relative" and chosen.curvature is None:
        raise AuditError(
            f"Relative scores need a curvature, and {name} takes none.",
            hint="Use form normalised, or a step through diagonal or ekfac.",
        )
    if chosen.shortlist < 0 or (chosen.shortlist and chosen.curvature is None):
        raise AuditError(
            f"A shortlist of {chosen.shortlist} texts cannot be made for {name}.",
            hint="It takes a number of texts and a step through ekfac or diagonal; 0 passes all of them.",
        )
    return chosen


def usual_method(n_tokens: int, name: str = "", **options: object) -> TraceMethod:
    """Return a method as asked of a corpus of so many tokens: a large one gets a shortlist where one can be made."""
    chosen = trace_method(name or DEFAULT, **options)
    is_large = n_tokens > WHOLE_TOKENS and chosen.curvature is not None and chosen.scope not in ("last-block", "head")
    if is_large and options.get("shortlist") is None:
        return replace(chosen, shortlist=SHORTLIST)
    return chosen
