from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.export import Dim

from forwardinf_core.errors import ModelError
from forwardinf_core.influence.network import FullNetwork, losses
from forwardinf_core.models.baseline import Baseline, BaselineConfig
from forwardinf_core.models.baseline_folder import save_baseline
from forwardinf_core.models.load import load_model
from forwardinf_core.models.preprocessing import PixelPreprocessing
from forwardinf_core.models.source import ModelSource

CLASSES = ("cat", "dog", "owl")
STATED: dict[str, Any] = {"classes": CLASSES, "mean": (0.5,), "std": (0.25,), "size": 8}
ADAPTER = """
import torch
from torch import nn

def build_model():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))
"""


class Tiny(nn.Module):
    """A small classifier with dropout and BatchNorm, so that modes matter."""

    def __init__(self, n_classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.ReLU())
        self.fc = nn.Linear(6, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.body(x))
        return logits


class RunsCode:
    """A pickle of this creates a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


def source(kind: str, path: str, **more: Any) -> ModelSource:
    stated = STATED if kind in ("exported", "adapter") else {}
    return ModelSource.model_validate({"kind": kind, "path": path} | stated | more)


def sentence(model: ModelSource, root: Path, **options: bool) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(model, root=root, **options)
    return f"{caught.value.title} | {caught.value.hint}"


def pictures(n: int, size: int = 8) -> list[Image.Image]:
    noise = np.random.default_rng(1).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return [Image.fromarray(picture) for picture in noise]


def write_baseline(root: Path, n_classes: int = 3) -> Baseline:
    module = Baseline(BaselineConfig(n_classes, channels=1, size=8, width=4)).eval()
    (root / "model").mkdir(exist_ok=True)
    save_baseline(root / "model", module, CLASSES, PixelPreprocessing(8, 1, (0.5,), (0.25,)))
    return module


def export(root: Path, module: nn.Module, name: str = "m.pt2", *, free_batch: bool = True) -> None:
    shapes = ({0: Dim("n")},) if free_batch else None
    torch.export.save(torch.export.export(module, (torch.randn(4, 1, 8, 8),), dynamic_shapes=shapes), root / name)


def write_adapter(root: Path, text: str = ADAPTER) -> None:
    (root / "net.py").write_text(text)


# ── baseline ──


def test_a_saved_baseline_loads_with_its_very_weights(tmp_path: Path) -> None:
    module = write_baseline(tmp_path)
    model = load_model(source("baseline", "model/"), root=tmp_path)
    x = model.preprocessing(pictures(4))
    loaded = model.module.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in module.state_dict().items())
    torch.testing.assert_close(model.module(x), module(x))  # the loaded one is laid out for speed and rounds otherwise
    assert (model.classes, model.head, model.tail, model.kind) == (CLASSES, "head", ("block3", "head"), "baseline")
    assert not model.module.training


def test_the_fingerprint_changes_with_weights_classes_and_preprocessing_alone(tmp_path: Path) -> None:
    module = write_baseline(tmp_path)
    first = load_model(source("baseline", "model/"), root=tmp_path).fingerprint
    assert load_model(source("baseline", "model/"), root=tmp_path).fingerprint == first
    others = [
        load_model(source("baseline", "model/", classes=("owl", "dog", "cat")), root=tmp_path).fingerprint,
        load_model(source("baseline", "model/", mean=(0.4,), std=(0.25,), size=8), root=tmp_path).fingerprint,
    ]
    with torch.no_grad():
        module.head.bias[0] += 1e-6
    save_baseline(tmp_path / "model", module, CLASSES, PixelPreprocessing(8, 1, (0.5,), (0.25,)))
    others.append(load_model(source("baseline", "model/"), root=tmp_path).fingerprint)
    assert len({first, *others}) == 4


def test_a_baseline_that_is_not_there_says_how_to_train_one(tmp_path: Path) -> None:
    assert "fit" in sentence(source("baseline", "model/"), tmp_path)
    write_baseline(tmp_path)
    (tmp_path / "model" / "config.json").write_text('{"model_type": "vit"}')
    assert "kind: transformers" in sentence(source("baseline", "model/"), tmp_path)


def test_a_wrong_number_of_classes_is_told(tmp_path: Path) -> None:
    write_baseline(tmp_path, n_classes=4)
    assert "has 4 outputs, and 3 classes are named" in sentence(source("baseline", "model/"), tmp_path)


def test_nan_weights_are_refused_by_name(tmp_path: Path) -> None:
    module = write_baseline(tmp_path)
    with torch.no_grad():
        module.head.weight[0, 0] = float("nan")
    save_baseline(tmp_path / "model", module, CLASSES, PixelPreprocessing(8, 1, (0.5,), (0.25,)))
    answer = sentence(source("baseline", "model/"), tmp_path)
    assert "NaN" in answer
    assert "head.weight" in answer


# ── weights ──


def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    write_baseline(tmp_path)
    marker = tmp_path / "ran"
    torch.save({"weight": RunsCode(marker)}, tmp_path / "w.pt")
    (tmp_path / "w.pth").write_bytes(pickle.dumps(RunsCode(marker)))
    for name in ("w.pt", "w.pth"):
        assert "it is refused: opening it could run code" in sentence(
            source("baseline", "model", weights=name), tmp_path
        )
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(RunsCode(marker)))
    assert "may hold code" in sentence(source("baseline", "model", weights="w.pkl"), tmp_path)
    assert not marker.exists()


def test_a_plain_state_dict_is_read_also_from_a_training_checkpoint(tmp_path: Path) -> None:
    module = write_baseline(tmp_path)
    expected = load_model(source("baseline", "model"), root=tmp_path).fingerprint
    torch.save({"state_dict": module.state_dict(), "epoch": 3}, tmp_path / "w.pt")
    assert load_model(source("baseline", "model", weights="w.pt"), root=tmp_path).fingerprint == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"not weights", "not a readable"), (None, "no weights file")],
)
def test_damaged_and_missing_weights_are_told(tmp_path: Path, content: bytes | None, said: str) -> None:
    write_baseline(tmp_path)
    if content is not None:
        (tmp_path / "w.safetensors").write_bytes(content)
    assert said in sentence(source("baseline", "model", weights="w.safetensors"), tmp_path)


def test_weights_of_another_model_are_told_by_name_and_shape(tmp_path: Path) -> None:
    module = write_baseline(tmp_path)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    save_file(
        {name: value for name, value in state.items() if name != "head.bias"} | {"x": torch.ones(1)},
        tmp_path / "w.safetensors",
    )
    answer = sentence(source("baseline", "model", weights="w.safetensors"), tmp_path)
    assert "missing: head.bias" in answer
    assert "not in the model: x" in answer
    save_file(state | {"head.bias": torch.ones(7)}, tmp_path / "w.safetensors")
    assert "head.bias is (7,) in the file and (3,)" in sentence(
        source("baseline", "model", weights="w.safetensors"), tmp_path
    )


def test_counters_of_batch_norm_may_be_left_out_of_weights(tmp_path: Path) -> None:
    module = write_baseline(tmp_path)
    state = {name: value for name, value in module.state_dict().items() if "num_batches" not in name}
    save_file(state, tmp_path / "w.safetensors")
    assert load_model(source("baseline", "model", weights="w.safetensors"), root=tmp_path).head == "head"


# ── transformers ──


def tiny_transformer(kind: str) -> Any:
    import transformers

    names = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: i for i, name in enumerate(CLASSES)}}
    if kind == "vit":
        return transformers.ViTForImageClassification(
            transformers.ViTConfig(
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                image_size=8,
                patch_size=4,
                **names,
            )
        )
    return transformers.ResNetForImageClassification(
        transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", **names)
    )


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_transformers_image_classifier_loads_and_its_gradients_flow(tmp_path: Path, kind: str) -> None:
    from transformers import ViTImageProcessorPil

    tiny_transformer(kind).save_pretrained(tmp_path / "model")
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(tmp_path / "model")
    model = load_model(source("transformers", "model"), root=tmp_path)
    assert model.classes == CLASSES
    assert isinstance(model.module.get_submodule(model.head or ""), nn.Linear)
    network = FullNetwork(model.module, model.objective)
    batch = {"x": model.preprocessing(pictures(2)), "label": torch.tensor([0, 2])}
    gradient = torch.func.grad(lambda p: losses(network, p, batch).sum())(network.parameters)
    assert any(value.abs().max() > 0 for value in gradient.values())


def test_stated_preprocessing_stands_in_where_the_folder_brings_none(tmp_path: Path) -> None:
    tiny_transformer("vit").save_pretrained(tmp_path / "model")
    assert "mean" in sentence(source("transformers", "model"), tmp_path)
    stated = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "size": 8}
    assert load_model(source("transformers", "model", **stated), root=tmp_path).classes == CLASSES


def test_pickled_weights_of_transformers_are_refused(tmp_path: Path) -> None:
    module = tiny_transformer("vit")
    module.config.save_pretrained(tmp_path / "model")
    assert "has no weights" in sentence(source("transformers", "model"), tmp_path)
    torch.save(module.state_dict(), tmp_path / "model" / "pytorch_model.bin")
    assert "pytorch_model.bin" in sentence(source("transformers", "model"), tmp_path)


def test_a_backbone_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    module = tiny_transformer("vit")
    module.save_pretrained(tmp_path / "model")
    state = {name: value for name, value in module.state_dict().items() if not name.startswith("classifier")}
    save_file(state, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    assert "never trained on classes" in sentence(source("transformers", "model"), tmp_path)


def test_other_kinds_of_transformers_and_missing_folders_are_told(tmp_path: Path) -> None:
    import transformers

    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=20
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "model")
    assert "cannot be loaded as a transformers image classifier" in sentence(source("transformers", "model"), tmp_path)
    assert "hf download" in sentence(source("transformers", "nowhere/atall"), tmp_path)
    (tmp_path / "empty").mkdir()
    assert "no config.json" in sentence(source("transformers", "empty"), tmp_path)


# ── exported ──


def test_an_exported_program_loads_and_equals_its_module(tmp_path: Path) -> None:
    module = Tiny().eval()
    export(tmp_path, module)
    model = load_model(source("exported", "m.pt2"), root=tmp_path)
    x = model.preprocessing(pictures(5))
    torch.testing.assert_close(model.module(x), module(x))
    network = FullNetwork(model.module, model.objective)
    assert set(network.parameters) == {name for name, _ in module.named_parameters()}


def test_an_exported_program_in_training_mode_or_with_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    export(tmp_path, Tiny().train())
    assert "training mode" in sentence(source("exported", "m.pt2"), tmp_path)
    export(tmp_path, Tiny().eval(), free_batch=False)
    assert "batches of 4 only" in sentence(source("exported", "m.pt2"), tmp_path)


def test_an_exported_program_of_another_input_size_is_told(tmp_path: Path) -> None:
    export(tmp_path, Tiny().eval())
    assert "cannot take images of shape (3, 1, 9, 9)" in sentence(source("exported", "m.pt2", size=9), tmp_path)


def rewritten(path: Path, changes: dict[str, Callable[[bytes], bytes]]) -> None:
    """Rewrite entries of an exported program, as someone who means harm would."""
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            change = next((change for end, change in changes.items() if name.endswith(end)), None)
            archive.writestr(name, change(content) if change else content)


def pickled_weight(content: bytes) -> bytes:
    config = json.loads(content)
    next(iter(config["config"].values()))["use_pickle"] = True
    return json.dumps(config).encode()


def test_an_exported_program_that_could_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    harmful = io.BytesIO()
    torch.save((RunsCode(marker),), harmful)
    size = f"[open('{marker}','w') for _ in '1']".encode()
    attacks: dict[str, dict[str, Callable[[bytes], bytes]]] = {
        "pickled weights": {"weights_config.json": pickled_weight},
        "example inputs": {"sample_inputs/model.pt": lambda _: harmful.getvalue()},
        "it calls torch.hub.load": {
            "model.json": lambda c: c.replace(b"torch.ops.aten.relu.default", b"torch.hub.load")
        },
        "it calls _operator.methodcaller": {
            "model.json": lambda c: c.replace(b"torch.ops.aten.relu.default", b"_operator.methodcaller")
        },
        "computes a size": {
            "model.json": lambda c: c.replace(next(e for e in c.split(b'"') if e.startswith(b"Symbol(")), size)
        },
    }
    for reason, changes in attacks.items():
        export(tmp_path, Tiny().eval())
        rewritten(tmp_path / "m.pt2", changes)
        answer = sentence(source("exported", "m.pt2"), tmp_path)
        assert "opening it could run code" in answer, reason
        assert reason in answer
    assert not marker.exists()


def test_a_file_that_is_no_program_is_told(tmp_path: Path) -> None:
    (tmp_path / "m.pt2").write_bytes(b"PK not really")
    assert "not an exported program" in sentence(source("exported", "m.pt2"), tmp_path)
    assert "no exported program" in sentence(source("exported", "other.pt2"), tmp_path)


# ── adapter ──


def test_an_adapter_does_not_run_without_permission(tmp_path: Path) -> None:
    write_adapter(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\n" + ADAPTER)
    answer = sentence(source("adapter", "net.py"), tmp_path)
    assert "--allow-code" in answer
    assert not (tmp_path / "ran").exists()
    load_model(source("adapter", "net.py"), root=tmp_path, allow_code=True)
    assert (tmp_path / "ran").exists()


def test_an_adapter_takes_its_weights_and_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "layers.py").write_text("from torch import nn\n\ndef head():\n    return nn.Linear(5, 3)\n")
    write_adapter(tmp_path, "from layers import head\n" + ADAPTER.replace("nn.Linear(5, 3)", "head()"))
    built = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))
    state = {name: torch.full_like(value, 0.5) for name, value in built.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    model = load_model(source("adapter", "net.py", weights="w.safetensors"), root=tmp_path, allow_code=True)
    assert all((value == 0.5).all() for value in model.module.state_dict().values())
    assert model.head == "3"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "no function build_model"),
        ("1 / 0\n", "cannot be run: ZeroDivisionError"),
        (
            "def build_model():\n    raise RuntimeError('no GPU')\n",
            "build_model() in net.py failed: RuntimeError: no GPU",
        ),
        ("def build_model():\n    return 3\n", "returned int"),
        (ADAPTER + "\ndef loss(model, batch):\n    return model(batch['x']).sum()\n", "expected one loss a row"),
        (ADAPTER.replace("nn.Linear(5, 3)", "nn.Linear(5, 3), nn.Dropout(0.5)"), ""),
    ],
)
def test_mistakes_in_an_adapter_are_told(tmp_path: Path, text: str, said: str) -> None:
    write_adapter(tmp_path, text)
    if said:
        assert said.lower() in sentence(source("adapter", "net.py"), tmp_path, allow_code=True).lower()
    else:
        load_model(source("adapter", "net.py"), root=tmp_path, allow_code=True)


def test_the_own_loss_of_an_adapter_is_used_throughout(tmp_path: Path) -> None:
    loss = """
def loss(model, batch):
    return torch.nn.functional.cross_entropy(model(batch['x']), batch['label'], reduction='none')
"""
    write_adapter(tmp_path, ADAPTER + loss)
    own = load_model(source("adapter", "net.py"), root=tmp_path, allow_code=True).objective
    write_adapter(tmp_path, ADAPTER)
    plain = load_model(source("adapter", "net.py"), root=tmp_path, allow_code=True).objective
    outputs, change = torch.randn(4, 3), 0.01 * torch.randn(4, 3)
    batch = {"x": torch.zeros(4, 1, 8, 8), "label": torch.tensor([0, 1, 2, 0])}
    torch.testing.assert_close(own.losses(outputs, batch), plain.losses(outputs, batch))
    torch.testing.assert_close(own.output_gradients(outputs, batch), plain.output_gradients(outputs, batch))
    torch.testing.assert_close(
        own.loss_changes(outputs, change, batch), plain.loss_changes(outputs, change, batch), rtol=1e-4, atol=1e-7
    )


def test_a_model_that_changes_its_answers_or_mixes_rows_is_refused(tmp_path: Path) -> None:
    start = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 3)

    def forward(self, x):
        """
    ending = "\n\ndef build_model():\n    return Net()\n"
    write_adapter(tmp_path, start + "return torch.rand(len(x), 3)" + ending)
    assert "two answers" in sentence(source("adapter", "net.py"), tmp_path, allow_code=True)
    write_adapter(tmp_path, start + "z = self.fc(x.flatten(1))\n        return z - z.mean(0) + 3 * x.mean()" + ending)
    assert "alone and in a batch" in sentence(source("adapter", "net.py"), tmp_path, allow_code=True)
    write_adapter(tmp_path, start + "return self.fc(x.flatten(1)).sum()" + ending)
    assert "outputs of shape ()" in sentence(source("adapter", "net.py"), tmp_path, allow_code=True)
    write_adapter(tmp_path, start + "return self.fc(x.flatten(1)) / 0" + ending)
    assert "NaN or infinite outputs" in sentence(source("adapter", "net.py"), tmp_path, allow_code=True)


# ── head and tail, timm ──


def test_declared_head_and_tail_are_checked_against_the_model(tmp_path: Path) -> None:
    write_baseline(tmp_path)
    model = load_model(source("baseline", "model", head="head", tail=("block2", "block3", "head")), root=tmp_path)
    assert model.tail == ("block2", "block3", "head")
    assert "Did you mean block3" in sentence(source("baseline", "model", tail=("blok3",)), tmp_path)
    assert "Here that is head" in sentence(source("baseline", "model", head="block3"), tmp_path)
    assert "no weights to move" in sentence(source("baseline", "model", tail=("stem.2",)), tmp_path)


def test_timm_says_when_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install timm" in sentence(source("timm", "resnet18"), tmp_path)


def test_a_timm_folder_loads_by_its_own_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = ModuleType("timm")

    def create_model(name: str, *, pretrained: bool, num_classes: int) -> nn.Module:
        assert (name, pretrained) == ("tiny", False)
        return Tiny(num_classes)

    library.create_model = create_model  # type: ignore[attr-defined]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: SimpleNamespace())
    monkeypatch.setattr("importlib.import_module", lambda name: library)
    (tmp_path / "model").mkdir()
    config = {
        "architecture": "tiny",
        "label_names": list(CLASSES),
        "model_args": {"num_classes": 3},
        "pretrained_cfg": {"mean": [0.5], "std": [0.5], "input_size": [1, 8, 8], "crop_pct": 0.9},
    }
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    assert "no weights file" in sentence(source("timm", "model"), tmp_path)
    save_file(Tiny().state_dict(), tmp_path / "model" / "model.safetensors")
    assert "cropped to 0.9" in sentence(source("timm", "model"), tmp_path)
    config["pretrained_cfg"] = {"mean": [0.5], "std": [0.5], "input_size": [1, 8, 8]}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    assert load_model(source("timm", "model"), root=tmp_path).classes == CLASSES
    assert "names of the classes" in sentence(source("timm", "resnet18", weights="model/model.safetensors"), tmp_path)
