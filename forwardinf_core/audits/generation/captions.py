"""What the text encoders make of the captions of training rows: each caption read once, kept as half floats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from forwardinf_core.audits.context import Context
from forwardinf_core.influence.diffusion import Shared
from forwardinf_core.models.prompts import PromptEncoder
from forwardinf_core.store.arrays import ArrayWriter, Layout, open_tensor
from forwardinf_core.store.binding import Binding
from forwardinf_core.store.files import sha256

BLOCK = 1_000  # captions of one block on disk
Keeping = Callable[[str, dict[str, str]], tuple[Path, Binding]]
"""From the name of an array and what it depends on to its folder and its binding."""


def read_captions(
    prompts: PromptEncoder, captions: Sequence[tuple[str, ...]], keeping: Keeping, context: Context
) -> dict[str, Shared]:
    """Return the entries that depend on captions (``PromptEncoder.read``), one or several a row, memory-mapped."""
    known = sorted({caption for each in captions for caption in each})
    depends = {"captions": sha256("\x00".join(known).encode()), "encoder": prompts.fingerprint}
    first = prompts.read(known[:1])
    kept = {name: keeping("captions" if name == "text" else f"captions-{name}", depends) for name in first}
    with ExitStack() as held:
        writers = {}
        for name, value in first.items():
            layout = Layout((len(known), *value.shape[1:]), "float16", BLOCK)
            writers[name] = held.enter_context(ArrayWriter(kept[name][0], layout, kept[name][1]))
        for start, stop in sorted({block for writer in writers.values() for block in writer.missing()}):
            for name, value in prompts.read(known[start:stop]).items():
                writers[name].write(start, value.half())
            context.report(stop, len(known), "Reading the captions")
    places = {caption: place for place, caption in enumerate(known)}
    counts = torch.tensor([len(each) for each in captions])
    which = torch.zeros(len(captions), int(counts.max()), dtype=torch.int64)
    for row, each in enumerate(captions):
        which[row, : len(each)] = torch.tensor([places[caption] for caption in each])
    return {name: Shared(open_tensor(*kept[name]), which, counts) for name in first}
