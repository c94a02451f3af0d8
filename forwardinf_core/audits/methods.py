"""The named ways to score training rows, and what each means in plain words.

A name is ``SCOPE`` (the default step of that scope), ``SCOPE-STEP`` (for example ``tail-ekfac``), or ``forward-inf``
for the released recipe. The scope says which parameters the step moves, the step how.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

from forwardinf_core.audits.records import MethodInfo
from forwardinf_core.errors import AuditError

Scope = Literal["head", "tail", "full", "cascade"]
Step = Literal["sgd", "adam", "released", "diagonal", "ekfac", "subspace", "cg", "fisher"]
Direction = Literal["ascent", "descent", "central"]
Form = Literal["precise", "difference"]

DEFAULT_DAMPING: dict[str, float] = {"fisher": 3e-4, "subspace": 3e-4, "ekfac": 1e-8, "cg": 1e-3, "diagonal": 1e-4}
"""Chosen on development queries of digits and CIFAR-10N, the subspace's on wrong labels too: docs/method.md."""

DEFAULT_STEP: dict[str, Step] = {"head": "fisher", "tail": "subspace", "full": "ekfac", "cascade": "ekfac"}


@dataclass(frozen=True, slots=True)
class Method:
    """Every option of one way to score; stored beside the scores it made.

    ``damping`` is relative to the mean squared gradient of a training row; ``rise`` is how far the step lowers the
    log-odds of the query's label; ``learning_rate`` counts only where ``rise`` is None.
    """

    name: str
    scope: Scope
    step: Step
    direction: Direction = "ascent"
    form: Form = "precise"
    steps: int = 1
    learning_rate: float | None = None
    rise: float | None = 0.01
    damping: float = 1e-3  # DEFAULT_DAMPING by scope and step
    iterations: int = 10  # of conjugate gradients
    rank: int = 2048  # coordinates of the subspace
    shortlist: float = 0.05  # share of rows the cascade re-scores
    seed: int = 0
    parameters: str | None = None  # names or patterns of what may move, with commas; None = all of the scope
    average: bool = False  # over the project's checkpoints

    def options(self) -> dict[str, str | int | float | bool | None]:
        """Return every option by name, as stored and shown."""
        return asdict(self)

    @property
    def curvature(self) -> str | None:
        """Return which curvature has to be fitted first, if any."""
        return self.step if self.step in {"diagonal", "ekfac", "subspace", "cg", "fisher"} else None


STEPS_OF_SCOPE: dict[str, tuple[Step, ...]] = {
    "head": ("fisher", "sgd", "adam"),
    "tail": ("subspace", "ekfac", "cg", "fisher", "diagonal", "sgd", "adam"),
    "full": ("ekfac", "diagonal", "sgd", "adam"),
    "cascade": ("ekfac", "diagonal", "sgd", "adam"),
}

TITLES: dict[str, str] = {
    "head": "Head: at once",
    "tail": "Tail: refined",
    "full": "Whole network",
    "cascade": "Cascade: shortlist, then whole network",
    "forward-inf": "Forward-INF as released",
}

PLAIN_WORDS: dict[str, str] = {
    "head": "Moves only the last layer. Answers in milliseconds; 76 to 97% as faithful as the tail where measured.",
    "tail": "Moves the last block and the last layer. Takes seconds; as faithful as moving the whole network.",
    "full": "Moves every layer, then runs the whole model over all training rows once.",
    "cascade": "The head picks the most affected rows, the whole network re-scores those. "
    "The rest keep the head's score, marked as such.",
    "forward-inf": "The recipe of the paper's released code: one Adam step, size of the change without its sign.",
}

STEP_WORDS: dict[str, str] = {
    "sgd": "plain gradient step",
    "adam": "Adam steps (sign of the gradient)",
    "released": "the released recipe",
    "diagonal": "diagonal Fisher",
    "ekfac": "EK-FAC curvature",
    "subspace": "EK-FAC curvature, dense where it matters most",
    "cg": "empirical Fisher by conjugate gradients",
    "fisher": "exact empirical Fisher",
}


def method_named(name: str, **changes: object) -> Method:
    """Return the method with this name, with single options changed. Raises AuditError that lists the names."""
    if name == "forward-inf":
        method = Method(name, "full", "released", learning_rate=5e-3, rise=None, form="difference")
    else:
        scope, _, step = name.partition("-")
        if scope not in STEPS_OF_SCOPE or (step and step not in STEPS_OF_SCOPE[scope]):
            raise AuditError(f"There is no method ‘{name}’.", hint=f"Methods: {', '.join(method_names())}.")
        chosen = next(known for known in STEPS_OF_SCOPE[scope] if known == (step or DEFAULT_STEP[scope]))
        method = Method(name, scope, chosen)  # type: ignore[arg-type]  # scope is a key of STEPS_OF_SCOPE
        method = replace(method, damping=DEFAULT_DAMPING.get(chosen, method.damping))
        if chosen == "adam":
            method = replace(method, learning_rate=1e-3)
    method = replace(method, **changes)  # type: ignore[arg-type]  # checked by dataclasses.replace
    return _checked(method)


def shortlisting(method: Method) -> Method:
    """Return the method whose scores pick a cascade's shortlist: the head's default, with its own damping."""
    head = method_named("head")
    return replace(method, step=head.step, damping=head.damping, learning_rate=head.learning_rate)


def _checked(method: Method) -> Method:
    filtered = ("sgd", "adam", "diagonal")
    if method.parameters is not None and (method.scope not in ("tail", "full") or method.step not in filtered):
        raise AuditError(
            f"The method {method.name} cannot be limited to some parameters.",
            hint=f"tail and full can, with the steps {', '.join(filtered)}. For others list the modules as tail: in "
            "project.yaml.",
        )
    return method


def method_names() -> list[str]:
    """Return every name, the scope's default first."""
    names = [f"{scope}-{step}" for scope, steps in STEPS_OF_SCOPE.items() for step in steps]
    return [*STEPS_OF_SCOPE, "forward-inf", *names]


def method_infos(*, has_head: bool, has_tail: bool) -> list[MethodInfo]:
    """Return the ways to score that a person chooses from; what the model lacks is said in ``why_not``."""
    missing = {
        "head": "" if has_head else "the model has no linear layer at its end; name one as head: in project.yaml",
        "tail": "" if has_tail else "the model's last block was not found; list it as tail: in project.yaml",
    }
    needs = {"head": ("head",), "tail": ("tail",), "cascade": ("head",)}
    infos = []
    for name, title in TITLES.items():
        why_not = next((missing[part] for part in needs.get(name, ()) if missing[part]), "")
        infos.append(MethodInfo(name, title, PLAIN_WORDS[name], method_named(name).scope, not why_not, why_not))
    return infos
