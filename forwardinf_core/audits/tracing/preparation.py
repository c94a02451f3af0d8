"""What tracing computes once per model and corpus, and keeps: base losses, hidden states, curvature, self-influence.

Hidden states that enter the last block are memory-mapped, one row a token, as long as they fit ``HIDDEN_BOUND``; beyond
it the last block is traced by passes through the whole model. Everything lies under .audit/caches and may be deleted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forwardinf_core.audits.tracing.codes import TextCodes
from forwardinf_core.audits.tracing.lexical import LexicalIndex
from forwardinf_core.audits.tracing.methods import TraceMethod
from forwardinf_core.errors import ModelError
from forwardinf_core.influence.language import LanguageModelling, TokenLogOdds
from forwardinf_core.influence.language_curvature import LanguageCurvature, fit_language_curvature
from forwardinf_core.influence.language_head import HeadApart, LanguageHead, entering_head
from forwardinf_core.influence.language_parts import Matrix, embedding_matrix, matrices_of, names_in
from forwardinf_core.influence.language_replay import HIDDEN, ReplayNetwork, entering_last_block
from forwardinf_core.influence.network import FullNetwork, Network, RestrictedNetwork
from forwardinf_core.influence.objective import Batch
from forwardinf_core.models.language import LanguageModel
from forwardinf_core.models.language_text import Pieces, pieces_of
from forwardinf_core.models.language_training import bounded
from forwardinf_core.store.arrays import Layout, is_complete, open_tensor
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.store.row_writer import RowWriter

BATCH_TOKENS = 2_048
GRADIENT_NUMBERS = 1 << 24  # numbers of per-text gradients of one matrix at a time: 64 MiB
HIDDEN_BOUND = 2 << 30  # bytes of disk
TOKENS_PER_BLOCK = 16_384
VERSION = 2  # rises when the same options would give other numbers
SEED = 0
BY_PIECE: dict[str, Option] = {"losses": "of pieces"}

Report = Callable[[float, str], None]


def silent(_share: float, _note: str) -> None:
    """Tell nobody."""


class Corpus(Protocol):
    """Training texts as tracing reads them."""

    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def texts(self) -> Sequence[str]: ...
    @property
    def targets(self) -> Sequence[str] | None:
        """What a sequence-to-sequence model should say of each text, where the corpus says so."""
        ...

    @property
    def fingerprint(self) -> str: ...


@dataclass
class _Opened:
    base: dict[str, Tensor] | None = None
    hidden: Tensor | None = None
    curvatures: dict[str, LanguageCurvature] = field(default_factory=dict)
    own: dict[str, Tensor] = field(default_factory=dict)
    networks: dict[str, Network] = field(default_factory=dict)
    codes: dict[str, TextCodes] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


class Workplace:
    """A model, its corpus, and what is known of them. What is missing is made on demand.

    Threads that run the model hold ``alone``.
    """

    def __init__(self, model: LanguageModel, corpus: Corpus, caches: Path, *, hidden_bound: int = HIDDEN_BOUND) -> None:
        self.model = model
        self.corpus = corpus
        self.caches = caches
        self.hidden_bound = hidden_bound
        self._opened = _Opened()

    @property
    def alone(self) -> threading.RLock:
        """What a thread holds while it runs the model: a pass with moved weights puts them into the module so long."""
        return self._opened.lock

    @cached_property
    def pieces(self) -> Pieces:
        """The corpus as tokens."""
        return pieces_of(self.model, self.corpus.texts, self.corpus.targets)

    @cached_property
    def lexical(self) -> LexicalIndex:
        """The corpus as words."""
        texts, targets = self.corpus.texts, self.corpus.targets
        both = texts if targets is None else [f"{one} {other}" for one, other in zip(texts, targets, strict=True)]
        return LexicalIndex(both)

    @cached_property
    def batches(self) -> list[list[int]]:
        """Positions of pieces that are read together, in order."""
        return bounded(range(len(self.pieces)), self.pieces.lengths, BATCH_TOKENS)

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum([len(piece) for piece in self.pieces.inputs])]).astype(np.int64)

    def batch(self, positions: Sequence[int], *, with_hidden: bool = False) -> Batch:
        """Return pieces as a batch, with their cached hidden states where the last block alone runs."""
        found = self.pieces.batch(positions)
        if not with_hidden:
            return found
        hidden = self.hidden()
        assert hidden is not None
        mask = found["attention_mask"].bool()
        rows = torch.zeros(*mask.shape, hidden.shape[1])
        ends = self._offsets
        rows[mask] = torch.cat([hidden[int(ends[one]) : int(ends[one + 1])] for one in positions])
        return found | {HIDDEN: rows}

    def base(self, report: Report = silent) -> tuple[Tensor, Tensor]:
        """Return every document's loss under the unchanged model, (n,), and its mean hidden state, (n, width)."""
        found = self._base(report)
        return found["losses"], found["embeddings"]

    def piece_losses(self) -> Tensor:
        """Return every piece's loss under the unchanged model, (n_pieces,) float64, its tokens' summed."""
        return self._base(silent)["pieces"]

    def _base(self, report: Report) -> dict[str, Tensor]:
        with self._opened.lock:
            if self._opened.base is None:
                kept = self._store("base", BY_PIECE).get("base")
                self._opened.base = kept if kept is not None else self._base_pass(report)
            return self._opened.base

    def hidden(self) -> Tensor | None:
        """Return the cached hidden states (tokens, width), None where they are not kept."""
        with self._opened.lock:
            if self._opened.hidden is None and self.can_replay and is_complete(self._hidden_folder, self._hidden_bound):
                self._opened.hidden = open_tensor(self._hidden_folder, self._hidden_bound)
            return self._opened.hidden

    @property
    def hidden_bytes(self) -> int:
        """What the hidden states take on disk."""
        return int(self._offsets[-1]) * self.width * 4

    @cached_property
    def width(self) -> int:
        """Numbers in one hidden state."""
        return int(entering_last_block(self.model.module, self.model.objective, self.pieces.batch([0]))[0].shape[-1])

    @cached_property
    def can_replay(self) -> bool:
        """Say whether a query about the last block can use cached hidden states: the model allows it, and they fit."""
        return len(self.pieces) > 0 and self._replay is not None and self.hidden_bytes <= self.hidden_bound

    @cached_property
    def _replay(self) -> ReplayNetwork | None:
        try:
            return ReplayNetwork(self.model.module, self.model.objective, self.pieces.batch([len(self.pieces) - 1]))
        except ModelError:
            return None

    def uses_hidden(self, method: TraceMethod) -> bool:
        """Say whether a method runs the last block alone, on cached hidden states."""
        if method.scope != "last-block":
            return False
        with self.alone:  # asked for the first time, it runs the model; always taken before a property's own lock
            return self.can_replay

    def with_hidden(self, method: TraceMethod, batch: Batch) -> Batch:
        """Return a batch with the hidden states that the method's part of the model reads, computed now."""
        module, objective = self.model.module, self.model.objective
        if method.scope == "head":
            return batch | {HIDDEN: entering_head(module, objective, batch)[0]}
        return batch | {HIDDEN: entering_last_block(module, objective, batch)[0]} if self.uses_hidden(method) else batch

    def batch_for(self, method: TraceMethod, positions: Sequence[int]) -> Batch:
        """Return pieces as a batch of this method; hidden states come from disk where they are kept."""
        if self.uses_hidden(method) and self.hidden() is not None:
            return self.batch(positions, with_hidden=True)
        return self.with_hidden(method, self.batch(positions))

    def network(self, method: TraceMethod) -> Network:
        """Return the model as a function of what the method moves."""
        with self._opened.lock:
            key = f"{method.scope} {method.curvature}"
            if key not in self._opened.networks:
                module = self.model.module
                if self.uses_hidden(method) and self._replay is not None:
                    whole: Network = self._replay
                elif method.scope == "head":
                    whole = LanguageHead(module, self.model.objective, self.pieces.batch([len(self.pieces) - 1]))
                elif method.scope == "linear" and not embedding_matrix(module).readers:
                    whole = HeadApart(module, self.model.objective)
                else:
                    whole = FullNetwork(module, self.model.objective)
                names = (
                    [m.weight for m in self.matrices(method)] if method.curvature else names_in(module, method.scope)
                )
                self._opened.networks[key] = RestrictedNetwork(whole, names)
            return self._opened.networks[key]

    def matrices(self, method: TraceMethod) -> list[Matrix]:
        """Return the weight matrices that a curvature step of this method moves."""
        return matrices_of(self.model.module, method.scope)

    def curvature(
        self, method: TraceMethod, report: Report = silent, *, of_odds: bool = False
    ) -> LanguageCurvature | None:
        """Return the curvature of a method, fitted first where it is not on disk; None where it needs none.

        ``of_odds``: from gradients of the tokens' log-odds in place of their losses, which vanish once fitted.
        """
        if method.curvature is None:
            return None
        key = _key(method, of_odds)
        with self._opened.lock:
            if key not in self._opened.curvatures:
                store = self._store(f"fisher-{key}", {"texts": method.fisher_texts, "seed": SEED})
                kept = store.get("fisher")
                if kept is None:
                    found = self._fit(method, report, of_odds)
                    store.put("fisher", found.tensors())
                else:
                    found = LanguageCurvature.from_tensors(kept, self.matrices(method))
                self._opened.curvatures[key] = found
            return self._opened.curvatures[key]

    def own(self, method: TraceMethod, report: Report = silent, *, of_odds: bool = False) -> Tensor:
        """Return every document's self-influence under a method's curvature, (n,); its pieces' summed."""
        curvature = self.curvature(method, report, of_odds=of_odds)
        assert curvature is not None
        key = _key(method, of_odds)
        with self._opened.lock:
            if key not in self._opened.own:
                options: dict[str, Option] = {"texts": method.fisher_texts, "seed": SEED, "damping": method.damping}
                store = self._store(f"own-{key}", options)
                kept = store.get("own")
                if kept is None:
                    kept = {"own": self._own_pass(curvature, method, report, of_odds)}
                    store.put("own", kept)
                self._opened.own[key] = kept["own"]
            return self._opened.own[key]

    def codes(self, method: TraceMethod, report: Report = silent) -> TextCodes:
        """Return the codes of all texts; made first where they are not on disk."""
        with self._opened.lock:
            found = self._codes(method)
            found.make(report)
            return found

    def _codes(self, method: TraceMethod) -> TextCodes:
        key = f"{_key(method, False)} {method.fisher_texts} {method.damping}"
        with self._opened.lock:
            if key not in self._opened.codes:
                named = _key(method, False)
                self._opened.codes[key] = TextCodes(self, method, named, seed=SEED, version=VERSION)
            return self._opened.codes[key]

    def is_ready(self, method: TraceMethod) -> bool:
        """Say whether a query by this method needs nothing but the query's own passes."""
        if not self.has_base(method):
            return False
        if method.curvature is None:
            return True
        if not self.has_curvature(method) or (method.form == "relative" and not self.has_own(method)):
            return False
        return not method.shortlist or self.has_codes(method)

    def has_base(self, method: TraceMethod) -> bool:
        """Say whether the corpus was read once, with the hidden states this method runs on."""
        base = self._opened.base is not None or "base" in self._store("base", BY_PIECE).keys()  # noqa: SIM118
        return base and not (self.uses_hidden(method) and self.hidden() is None)

    def has_curvature(self, method: TraceMethod) -> bool:
        """Say whether the method's curvature is on disk."""
        options: dict[str, Option] = {"texts": method.fisher_texts, "seed": SEED}
        return "fisher" in self._store(f"fisher-{_key(method, False)}", options).keys()  # noqa: SIM118

    def has_own(self, method: TraceMethod) -> bool:
        """Say whether the texts' self-influence under the method's curvature is on disk."""
        options: dict[str, Option] = {"texts": method.fisher_texts, "seed": SEED, "damping": method.damping}
        return "own" in self._store(f"own-{_key(method, False)}", options).keys()  # noqa: SIM118

    def has_codes(self, method: TraceMethod) -> bool:
        """Say whether the texts' codes are on disk; asked of a method whose curvature is."""
        return self._codes(method).are_kept

    def prepare(self, method: TraceMethod, report: Report = silent) -> None:
        """Make what a method needs."""
        self.base(lambda share, note: report(0.3 * share, note))
        self.curvature(method, lambda share, note: report(0.3 + 0.3 * share, note))
        if method.form == "relative":
            self.own(method, lambda share, note: report(0.6 + 0.2 * share, note))
        if method.shortlist:
            self.codes(method, lambda share, note: report(0.8 + 0.2 * share, note))
        report(1.0, "Ready")

    def by_document(self, values: Tensor) -> Tensor:
        """Sum values of pieces (n_pieces, …) over their documents."""
        return torch.from_numpy(self.pieces.by_document(values.double().numpy()))

    def _base_pass(self, report: Report) -> dict[str, Tensor]:
        n_pieces, keep = len(self.pieces), self.can_replay
        losses = torch.zeros(n_pieces, dtype=torch.float64)
        sums = torch.zeros(n_pieces, self.width if n_pieces else 1)
        counts = torch.zeros(n_pieces)
        writer = RowWriter(self._hidden_folder, self._hidden_layout, self._hidden_bound) if keep else None
        for positions in self.batches:
            batch = self.batch(positions)
            hidden, outputs = entering_last_block(self.model.module, self.model.objective, batch)
            losses[positions] = self.model.objective.token_losses(outputs, batch).double().sum(1)
            # a decoder's hidden states stand beside the tokens it says, a causal model's beside those it reads
            mask = batch["attention_mask"].bool() if self.pieces.is_causal else batch["labels"] >= 0
            sums[positions] = (hidden * mask.unsqueeze(-1)).sum(1)
            counts[positions] = mask.sum(1).float()
            if writer is not None:
                writer.add(hidden[mask])
            report((positions[-1] + 1) / n_pieces, "Reading the texts once")
        if writer is not None:
            writer.close()
        means = self.by_document(sums) / self.by_document(counts).clamp_min(1).unsqueeze(1)
        found = {"losses": self.by_document(losses).float(), "embeddings": means.float(), "pieces": losses}
        self._store("base", BY_PIECE).put("base", found)
        return found

    def _objective(self, of_odds: bool) -> LanguageModelling:
        objective = self.model.objective
        return TokenLogOdds(self.model.task, objective.reduction) if of_odds else objective

    def _fit(self, method: TraceMethod, report: Report, of_odds: bool) -> LanguageCurvature:
        assert method.curvature is not None
        n_pieces = len(self.pieces)
        chosen = np.random.default_rng(SEED).permutation(n_pieces)[: method.fisher_texts]
        matrices = self.matrices(method)
        batches = [partial(self.pieces.batch, some) for some in self.gradient_batches(np.sort(chosen), matrices)]
        return fit_language_curvature(
            self.model.module,
            self._objective(of_odds),
            matrices,
            batches,
            method.curvature,
            report=lambda share: report(share, "Measuring how the texts move the model"),
        )

    def _own_pass(self, curvature: LanguageCurvature, method: TraceMethod, report: Report, of_odds: bool) -> Tensor:
        objective = self._objective(of_odds)
        own = torch.zeros(len(self.pieces))
        every = self.gradient_batches(np.arange(len(self.pieces)), [part.matrix for part in curvature.parts])
        for positions in every:
            own[positions] = curvature.self_influences(
                self.model.module, objective, self.pieces.batch(positions), damping=method.damping
            )
            report((positions[-1] + 1) / len(self.pieces), "Measuring how strongly each text moves the model")
        return self.by_document(own).float()

    def gradient_batches(self, order: NDArray[np.int64], matrices: Sequence[Matrix]) -> list[list[int]]:
        """Return some pieces in batches whose per-text gradients of one matrix fit into memory."""
        largest = max(_numbers(self.model.module, matrix) for matrix in matrices)
        most = max(1, GRADIENT_NUMBERS // largest)
        groups = bounded(order.tolist(), self.pieces.lengths, BATCH_TOKENS)
        return [group[start : start + most] for group in groups for start in range(0, len(group), most)]

    def _store(self, name: str, options: dict[str, Option] | None = None) -> ChunkStore:
        bound = Binding(f"trace-{name}", self.fingerprints, options or {}, VERSION)
        return ChunkStore(self.caches / f"trace-{name}-{bound.key()[:12]}", bound)

    @property
    def fingerprints(self) -> dict[str, str]:
        """What everything kept of this place is bound to."""
        return {"model": self.model.fingerprint, "texts": self.corpus.fingerprint}

    @cached_property
    def _hidden_bound(self) -> Binding:
        return Binding("trace-hidden", self.fingerprints, {"width": self.width}, VERSION)

    @property
    def _hidden_folder(self) -> Path:
        return self.caches / f"trace-hidden-{self._hidden_bound.key()[:12]}"

    @property
    def _hidden_layout(self) -> Layout:
        return Layout((int(self._offsets[-1]), self.width), "float32", TOKENS_PER_BLOCK)


def _numbers(module: nn.Module, matrix: Matrix) -> int:
    weight = module.get_submodule(matrix.module).weight
    assert isinstance(weight, Tensor)
    return weight.numel()


def _key(method: TraceMethod, of_odds: bool) -> str:
    return f"{'odds-' if of_odds else ''}{method.scope}-{method.curvature}"
