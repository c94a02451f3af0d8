"""Models of kind ``exported``: a program saved with ``torch.export.save``.

Such a file may hold pickles and expressions that run when it is opened, so it is read only after everything in it was
found to be plain: tensors as bytes, operators of PyTorch, sizes as symbols. Guards, which are Python source, are never
executed: the program is unflattened instead.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from forwardinf_core.errors import CodeRefusedError, ModelError
from forwardinf_core.influence.objective import Classification
from forwardinf_core.models.parts import ModelParts, stated_preprocessing
from forwardinf_core.models.source import ModelSource
from forwardinf_core.models.weights import load_into, load_weights

PLAIN_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims)\.(?!from_file)\w+(\.\w+)?"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|math\.(ceil|floor|trunc|sqrt)"
)
SYMBOL = re.compile(r"Symbol\('\w+'(, [a-z]+=(True|False))*\)")
SIZE_FUNCTION = re.compile(r"\b(Max|Min|FloorDiv|Mod|PythonMod|CeilDiv|IntTrueDiv|Integer|Mul|Add|Pow)\(")
PLAIN_ARITHMETIC = re.compile(r"[\s\dsu+\-*/(),]{0,1000}")  # s12 and u3 are how sizes are called
PLAIN_TENSOR_FILE = re.compile(r"(weight|tensor)_\d+")
EXPORT_HINT = "Export it again: torch.export.export(model.eval(), (x,), dynamic_shapes=({0: Dim('n')},)), then save."


def load_exported(source: ModelSource, root: Path, *, allow_code: bool) -> ModelParts:
    """Return the program as a module. Raises ModelError if it could run code (unless allowed) or has a fixed batch."""
    path = root / source.path
    if not path.is_file():
        raise ModelError(f"There is no exported program {source.path}.", hint=f"Looked for {path}.")
    if not allow_code:
        refuse_code(path)
    try:
        program = torch.export.load(path)
        _require_free_batch(program, path.name)
        module: nn.Module = torch.export.unflatten(program)
    except ModelError:
        raise
    except Exception as error:  # the reader raises anything on a damaged file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(
            f"{path.name} cannot be loaded as an exported program.", hint=f"PyTorch says: {reason}"
        ) from error
    if source.weights is not None:
        load_into(module, load_weights(root / source.weights), source.weights)
    assert source.classes is not None  # the schema requires them
    return ModelParts(
        module=module,
        objective=Classification(),
        inputs=stated_preprocessing(source),
        classes=source.classes,
        definition=str(program.graph),
        origin=source.weights or path.name,
    )


def refuse_code(path: Path) -> None:
    """Raise ModelError unless nothing in the archive can run code when it is opened."""
    try:
        with zipfile.ZipFile(path) as archive:
            reason = _suspicion(archive)
    except (zipfile.BadZipFile, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path.name} is not an exported program of this PyTorch.", hint=EXPORT_HINT) from error
    if reason:
        raise CodeRefusedError(
            f"{path.name} is refused because opening it could run code: {reason}.",
            hint="Export the model again without it; if you trust the file, allow code with --allow-code.",
        )


def _suspicion(archive: zipfile.ZipFile) -> str:
    """Return what in the archive could run code, or nothing."""
    names = [name.partition("/")[2] for name in archive.namelist()]  # all lie in one folder named after the file
    if len(set(names)) < len(names):
        return "two entries have one name"
    if "archive_version" not in names:
        return "it is not of the present format"
    for full, name in zip(archive.namelist(), names, strict=True):
        folder, _, file = name.rpartition("/")
        reason = ""
        if folder.startswith("data/aotinductor"):
            reason = "it holds compiled code"
        elif folder in ("data/weights", "data/constants"):
            reason = _tensor_suspicion(file, archive.read(full) if file.endswith(".json") else b"")
        elif folder == "data/sample_inputs" and not _is_plain_pickle(archive.read(full)):
            reason = "its example inputs are more than tensors"
        elif folder == "models":
            reason = _graph_suspicion(json.loads(archive.read(full)))
        if reason:
            return reason
    return ""


def _tensor_suspicion(file: str, config: bytes) -> str:
    if not config:
        return "" if PLAIN_TENSOR_FILE.fullmatch(file) else f"it holds {file}"
    entries = json.loads(config)["config"].values()
    plain = all(not entry["use_pickle"] and PLAIN_TENSOR_FILE.fullmatch(entry["path_name"]) for entry in entries)
    return "" if plain else "it holds pickled weights or constants"


def _graph_suspicion(content: object) -> str:
    for key, value in _strings(content):
        if key == "target" and not PLAIN_OPERATOR.fullmatch(value):
            return f"it calls {value[:60]}"
        if key == "expr_str" and not _is_plain_expression(value):
            return f"it computes a size as {value[:60]}"
    return ""


def _is_plain_expression(text: str) -> bool:
    """Say whether a size is arithmetic on symbols: SymPy evaluates the text as Python."""
    return PLAIN_ARITHMETIC.fullmatch(SIZE_FUNCTION.sub("(", SYMBOL.sub("s", text))) is not None


def _is_plain_pickle(content: bytes) -> bool:
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        return len(content) == 0
    return True


def _strings(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _strings(item, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key)
    elif isinstance(value, str):
        yield key, value


def _require_free_batch(program: torch.export.ExportedProgram, name: str) -> None:
    inputs = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    if len(inputs) != 1:
        raise ModelError(f"{name} takes {len(inputs)} inputs.", hint="Expected one: the images.")
    value = inputs[0].meta.get("val")
    if isinstance(value, torch.Tensor) and value.ndim > 0 and isinstance(value.shape[0], int):
        raise ModelError(f"{name} accepts batches of {value.shape[0]} only.", hint=EXPORT_HINT)
