"""What painting and tracing will cost: a dry run of a few draws, and how many passes each kind of work takes.

A pass runs the denoiser on one draw of every training image. How many of them work takes was measured on the demo
(1,500 images of 8 × 8), in processor time of one thread: docs/jobs.md. A test holds the whole to a factor of 3.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from forwardinf_core.audits.context import AtOnce
from forwardinf_core.audits.costs import FLOAT_BYTES, PROGRAM_BYTES, SCORE_BYTES, START_S
from forwardinf_core.audits.dry_run import DryRun
from forwardinf_core.audits.generation.methods import METHODS, Method
from forwardinf_core.audits.generation.place import BATCH, FIT_DRAWS, Place
from forwardinf_core.audits.generation.scoring import HELD
from forwardinf_core.audits.generation.tracing import GenerationAudit
from forwardinf_core.influence.diffusion import DrawRows, Draws
from forwardinf_core.jobs.execution import available_threads
from forwardinf_core.jobs.forecast import Forecast, judged
from forwardinf_core.projects.forecast import ACTIVATIONS_AT_ONCE

N_BATCHES = 3
PASSES_OF_FIT = {"ekfac": 20.0, "diagonal": 10.0}  # for one draw of every image, with gradients
PASSES_OF_TRAINING = 4.0  # forward, backward and the optimiser, one draw of every image
PASSES_OF_A_STEP = 4.0  # forward, backward and the search for its length, a draw of the query
PASSES_OF_SCORING = 1.1
PASSES_OF_FEATURES = 1.0
TENSORS_A_DRAW = 2  # change and noise level, kept with an answer


@dataclass(frozen=True, slots=True)
class Rates:
    """What a few draws showed, scaled up to all training images; seconds are processor time of one thread."""

    images: int
    read_seconds: float  # decoding and encoding every image once
    forward_seconds: float  # one pass
    single_seconds: float  # a draw of one image by itself, as painting takes it
    sample_bytes: int  # of one encoded image
    largest_bytes: int  # of the largest output of a layer, an image
    weight_bytes: int


def dry_run_of(audit: GenerationAudit) -> DryRun[Rates]:
    """Return the dry run of this denoiser over its training images."""
    prints = f"{audit.model.fingerprint} {audit.train.fingerprint}"
    return DryRun(audit.project.audit_dir / "cost.json", prints, Rates, lambda: sampled(audit))


@torch.inference_mode()
def sampled(audit: GenerationAudit) -> Rates:
    """Encode a few images and run the denoiser on a draw of each. Raises DataError on an image that cannot be read."""
    model, n_images = audit.model, len(audit.train)
    chosen = np.linspace(0, n_images - 1, min(n_images, BATCH * N_BATCHES)).astype(np.int64).tolist()
    place = audit.place(AtOnce())
    started = time.thread_time()
    samples = model.codec.encode([audit.train.image(one) for one in chosen])
    read_s = time.thread_time() - started
    conditions = {name: value[torch.tensor(chosen)] for name, value in place.conditions.items()}
    ids = [audit.train.ids[one] for one in chosen]
    rows = DrawRows(ids, samples, conditions, Draws(1), model.n_timesteps)
    largest = _largest_output(place, rows)  # warms up, too
    started = time.thread_time()
    for start in range(0, len(rows), BATCH):
        model.objective.outputs(model.module, rows.batch(start, min(start + BATCH, len(rows))))
    forward_s = time.thread_time() - started
    started = time.thread_time()
    for number in range(N_BATCHES):
        model.objective.outputs(model.module, rows.batch(number % len(rows), number % len(rows) + 1))
    single_s = (time.thread_time() - started) / N_BATCHES
    factor = n_images / len(chosen)
    return Rates(
        images=n_images,
        read_seconds=factor * read_s,
        forward_seconds=factor * forward_s,
        single_seconds=single_s,
        sample_bytes=FLOAT_BYTES * samples[0].numel(),
        largest_bytes=FLOAT_BYTES * largest,
        weight_bytes=sum(value.numel() * value.element_size() for value in model.module.parameters()),
    )


def of_trace(audit: GenerationAudit, method: Method, rates: Rates) -> Forecast:
    """Return what one more answer costs, with what has to be made first."""
    place, draws = audit.place(AtOnce()), Draws(method.draws, seed=method.seed)
    a_query = method.query_draws / rates.images
    sides = 2 if method.direction == "central" else 1
    share = PASSES_OF_SCORING * (method.shortlist or 1.0)
    passes = share * method.draws * sides
    passes += sum(share * draws * 2 * ends * (1 + sides) for ends, draws in method.looks)  # the unchanged model, too
    passes += PASSES_OF_A_STEP * a_query * method.steps
    if method.step == "unlearn":
        passes += PASSES_OF_A_STEP * HELD / rates.images * method.steps
    if method.shortlist is not None:
        passes += PASSES_OF_SCORING * method.draws * method.shortlist  # the unchanged model, once more
    disk = rates.images * (SCORE_BYTES + TENSORS_A_DRAW * FLOAT_BYTES * method.draws)
    seconds = START_S
    if not place.has("samples"):
        sets = 2 if place.mirrors else 1
        seconds += sets * rates.read_seconds
        disk += sets * rates.images * rates.sample_bytes
    if not place.has("features"):
        passes += PASSES_OF_FEATURES
    if not place.has_outputs(draws):
        passes += method.draws
        disk += rates.images * method.draws * rates.sample_bytes
    curvature = 0
    if method.step in PASSES_OF_FIT:
        curvature = curvature_bytes(audit, method)
        if not place.has_curvature(method):
            passes += FIT_DRAWS * PASSES_OF_FIT[method.step]
            disk += curvature
    memory = PROGRAM_BYTES + 3 * rates.weight_bytes + 2 * curvature
    memory += 2 * ACTIVATIONS_AT_ONCE * BATCH * rates.largest_bytes
    return judged(audit.folder, seconds + passes * rates.forward_seconds, memory, disk)


def of_painting(audit: GenerationAudit, steps: int, guidance: float, rates: Rates) -> Forecast:
    """Return what painting a picture costs."""
    each = rates.single_seconds * (1 if guidance == 1.0 else 2)
    memory = PROGRAM_BYTES + 2 * rates.weight_bytes + ACTIVATIONS_AT_ONCE * rates.largest_bytes
    return judged(audit.folder, START_S + steps * each, memory, rates.sample_bytes)


def of_trainings(audit: GenerationAudit, trainings: int, rounds: int, rates: Rates) -> Forecast:
    """Return what retraining the model costs, so many times over so many rounds of all images."""
    seconds = START_S + trainings * rounds * PASSES_OF_TRAINING * rates.forward_seconds
    memory = PROGRAM_BYTES + 8 * rates.weight_bytes + 2 * ACTIVATIONS_AT_ONCE * BATCH * rates.largest_bytes
    return judged(audit.folder, seconds, available_threads() * memory, trainings * rates.sample_bytes)


def of_every(audit: GenerationAudit, rates: Rates) -> dict[str, Forecast]:
    """Return what the first long work of each sort costs, by what it is called on the command line."""
    found = {f"attribute --method {name}": of_trace(audit, method, rates) for name, method in METHODS.items()}
    return found | {"generate": of_painting(audit, min(50, audit.model.n_timesteps), 1.0, rates)}


def curvature_bytes(audit: GenerationAudit, method: Method) -> int:
    """Return about how large a fitted curvature is: strengths, and for EK-FAC the bases."""
    total = 0
    for value in audit.model.module.parameters():
        sides = (value.shape[0], value.numel() // value.shape[0] + 1)
        is_matrix = value.ndim > 1 and method.step == "ekfac"
        total += value.numel() + (sum(side**2 for side in sides) if is_matrix else 0)
    return FLOAT_BYTES * total


def _largest_output(place: Place, rows: DrawRows) -> int:
    """Return the size of the largest output of any layer, in numbers an image."""
    largest = 0

    def note(_module: torch.nn.Module, _inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, torch.Tensor) and len(output):
            largest = max(largest, output.numel() // len(output))

    handles = [module.register_forward_hook(note) for module in place.model.module.modules()]
    try:
        stop = min(BATCH, len(rows))
        place.model.objective.outputs(place.model.module, rows.batch(0, stop))
    finally:
        for handle in handles:
            handle.remove()
    return largest
