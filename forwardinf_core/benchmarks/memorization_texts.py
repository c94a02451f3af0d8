"""How well cheap scores rank training texts of a language model by memorization, against small models retrained.

The reference is Feldman and Zhang's, for texts: the mean probability a model gives the tokens of a text, over models
trained on random halves with it, less that without it. Every score is of one model trained on all texts. What the
models say is kept in a folder and a second run goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forwardinf_core.audits.memorization.reference import reference_of_chances
from forwardinf_core.benchmarks.memorization import Measured, Rank, halves_of, rank_correlation
from forwardinf_core.errors import DataError
from forwardinf_core.influence.language import LanguageModelling, TokenLogOdds
from forwardinf_core.influence.language_curvature import LanguageCurvatureKind, fit_language_curvature
from forwardinf_core.influence.language_parts import LanguageScope, matrices_of
from forwardinf_core.models.language import LanguageModel
from forwardinf_core.models.language_baseline import LanguageShape, language_module, trained_tokenizer
from forwardinf_core.models.language_text import Pieces, pieces_of
from forwardinf_core.models.language_training import LanguageTraining, bounded, train_language
from forwardinf_core.projects.demos.facts import training_rows
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.store.files import sha256
from forwardinf_core.verification.retraining import Task

DEMO = "demo sentences"
N_TEXTS, DRAW_SEED, MODEL_SEED = 1_000, 11, 5_000
SHAPE = LanguageShape(vocabulary=1_024, width=64, layers=2, heads=2, context=64)
TRAINING = LanguageTraining(epochs=14, batch_tokens=512, learning_rate=5e-3)
Step = tuple[LanguageScope, LanguageCurvatureKind, float]
STEPS: tuple[Step, ...] = (
    ("blocks", "ekfac", 0.1),
    ("blocks", "ekfac", 1e-3),
    ("blocks", "diagonal", 0.1),
    ("last-block", "ekfac", 0.1),
)
BATCH_TOKENS = 2_048
Scores = NDArray[np.float64]
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Corpus:
    """Texts as tokens, with what says them: any model of SHAPE."""

    name: str
    model: LanguageModel
    pieces: Pieces

    @property
    def n_texts(self) -> int:
        return self.pieces.n_documents

    def batches(self) -> list[list[int]]:
        """Return positions of pieces read together."""
        return bounded(range(len(self.pieces)), self.pieces.lengths, BATCH_TOKENS)


def demo_texts() -> list[str]:
    """Return some sentences of the facts demo."""
    return [row.text for row in training_rows()][:N_TEXTS]


def set_texts(folder: Path) -> list[str]:
    """Return some texts of a set with ``corpus.parquet``. Raises DataError where there is none."""
    if not (folder / "corpus.parquet").is_file():
        raise DataError(f"There is no corpus.parquet in {folder}.", hint="Give the folder of a facts_* set.")
    texts = pd.read_parquet(folder / "corpus.parquet")["text"].tolist()
    order = np.random.default_rng(DRAW_SEED).permutation(len(texts))[:N_TEXTS]
    return [str(texts[place]) for place in np.sort(order)]


def corpus_of(name: str, texts: Sequence[str]) -> Corpus:
    """Return the texts as tokens of a tokenizer trained on them."""
    tokenizer = trained_tokenizer(texts, SHAPE.vocabulary, "causal-lm")
    module = language_module("causal-lm", SHAPE, len(tokenizer), seed=MODEL_SEED)
    objective = LanguageModelling("causal-lm")
    model = LanguageModel(module, tokenizer, objective, SHAPE.context, 0, tokenizer.eos_token_id, "", name)
    return Corpus(name, model, pieces_of(model, texts))


def measure(corpus: Corpus, kept: Path, *, models: int, report: Report) -> Measured:
    """Retrain, score, and compare. Every model takes some seconds on an idle core."""
    tasks = halves_of(corpus.n_texts, models)
    prints = {"texts": sha256(repr([piece.tolist() for piece in corpus.pieces.inputs]).encode())}
    binding = Binding("memorization-texts", prints, {**asdict(SHAPE), **asdict(TRAINING)})
    store = ChunkStore(kept / binding.key()[:16], binding)
    found = []
    for task in tasks:
        key = f"model-{task.seed:05d}"
        chunk = store.get(key)
        if chunk is None:
            chunk = {"chances": torch.from_numpy(chances_of(corpus, trained(corpus, task)))}
            store.put(key, chunk)
        found.append(chunk["chances"].numpy())
        report(len(found) / (models + 1), f"Trained {len(found)} of {models} models")
    scores = all_scores(corpus, trained(corpus, Task(np.arange(corpus.n_texts), MODEL_SEED)))
    return compared(corpus, tasks, found, scores)


def trained(corpus: Corpus, task: Task) -> nn.Module:
    """Return a model trained on some of the texts."""
    module = language_module("causal-lm", SHAPE, len(corpus.model.tokenizer), seed=task.seed)
    some = corpus.pieces.of(task.subset)
    train_language(module, corpus.model.objective, some.lengths, some.batch, replace(TRAINING, seed=task.seed))
    return module


@torch.inference_mode()
def chances_of(corpus: Corpus, module: nn.Module) -> Scores:
    """Return the mean probability that a model gives the tokens of each text, (n_texts,)."""
    losses = _token_losses(corpus, module)
    return _mean_over_tokens(corpus, [values.neg().exp() * counted for values, counted in losses])


def all_scores(corpus: Corpus, module: nn.Module) -> dict[str, Scores]:
    """Return every score of every text from one model trained on all of them."""
    losses = _token_losses(corpus, module)
    counted = np.maximum(corpus.pieces.counted, 1)
    total = _sum_over_tokens(corpus, [values for values, _ in losses])
    found: dict[str, Scores] = {
        "random": np.random.default_rng(0).random(corpus.n_texts),
        "loss, sum over tokens": total,
        "loss a token": total / counted,
        "tokens": counted.astype(np.float64),
    }
    for words, objective in (("self-influence", corpus.model.objective), ("the same of log-odds", TokenLogOdds())):
        for scope, kind, damping in STEPS:
            own = own_influences(corpus, module, objective, (scope, kind, damping))
            name = f"{words}, {scope}, {kind}, damping {damping:g}"
            found[name] = own
            found[f"{name}, a token"] = own / counted
    return found


def own_influences(corpus: Corpus, module: nn.Module, objective: LanguageModelling, step: Step) -> Scores:
    """Return the self-influence of every text, gradients and Fisher being of the objective."""
    scope, kind, damping = step
    matrices = matrices_of(module, scope)
    batches = [partial(corpus.pieces.batch, some) for some in corpus.batches()]
    curvature = fit_language_curvature(module, objective, matrices, batches, kind)
    values = torch.zeros(len(corpus.pieces))
    for positions in corpus.batches():
        batch = corpus.pieces.batch(positions)
        values[positions] = curvature.self_influences(module, objective, batch, damping=damping)
    return corpus.pieces.by_document(values.double().numpy())


def compared(corpus: Corpus, tasks: Sequence[Task], found: Sequence[Scores], scores: dict[str, Scores]) -> Measured:
    """Return how well every score ranks the texts: even positions to choose by, odd ones to report."""
    half, n_texts = len(tasks) // 2, corpus.n_texts
    truth = reference_of_chances(tasks, found, n_texts)
    halves = [reference_of_chances(tasks[part], found[part], n_texts) for part in (slice(half), slice(half, None))]
    choosing = np.arange(n_texts) % 2 == 0
    ranks = tuple(
        Rank(name, rank_correlation(values, truth, choosing), rank_correlation(values, truth, ~choosing))
        for name, values in scores.items()
    )
    ceiling = rank_correlation(halves[0].memorization, halves[1], np.ones(n_texts, dtype=bool))
    return Measured(corpus.name, n_texts, len(tasks), ceiling, ranks)


@torch.inference_mode()
def _token_losses(corpus: Corpus, module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return losses of the tokens of every batch, (n, positions), and which of them count."""
    objective, found = corpus.model.objective, []
    for positions in corpus.batches():
        batch = corpus.pieces.batch(positions)
        values = objective.token_losses(objective.outputs(module, batch), batch)
        found.append((values, objective.targets(batch) >= 0))
    return found


def _sum_over_tokens(corpus: Corpus, values: Sequence[Tensor]) -> Scores:
    total = torch.zeros(len(corpus.pieces), dtype=torch.float64)
    for positions, part in zip(corpus.batches(), values, strict=True):
        total[positions] = part.double().sum(1)
    return corpus.pieces.by_document(total.numpy())


def _mean_over_tokens(corpus: Corpus, values: Sequence[Tensor]) -> Scores:
    return _sum_over_tokens(corpus, values) / np.maximum(corpus.pieces.counted, 1)
