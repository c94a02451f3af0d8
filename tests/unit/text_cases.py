"""Small text projects: questions of three kinds, a trained baseline, and random encoders with their tokenizers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

CLASSES = ("number", "person", "place")
COPY, WRONG_COPY = "copy", "wrong-copy"  # ids of the planted rows
QUERY = "q-planted"  # test row whose text both have
ENCODERS = ("bert", "distilbert", "roberta")
_THINGS = ("bridge", "castle", "engine", "garden", "harbour", "letter", "mountain", "novel", "opera", "palace", "river")
_NAMES = ("Alva", "Brook", "Celia", "Dorset", "Ebro", "Fulda", "Gera", "Hesse", "Iseo", "Jura", "Kars", "Lodi")
_FORMS = {
    "number": (
        "How many {0}s are near {1} ?",
        "How long is the {0} of {1} ?",
        "What is the height of the {0} in {1} ?",
    ),
    "person": ("Who built the {0} of {1} ?", "Who owned the {0} in {1} ?", "Which woman loved the {0} of {1} ?"),
    "place": ("Where is the {0} of {1} ?", "Where did the {0} near {1} stand ?", "In which town is the {0} of {1} ?"),
}
PLANTED_TEXT = "Who painted the garden of Fulda ?"


def questions(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Return questions and their kinds, the same for the same seed."""
    random = np.random.default_rng(seed)
    texts, labels = [], []
    for number in range(count):
        label = CLASSES[number % 3]
        form = str(random.choice(_FORMS[label]))
        texts.append(form.format(random.choice(_THINGS), random.choice(_NAMES)))
        labels.append(label)
    return texts, labels


def write_project(folder: Path, *, kind: str = "baseline", n_train: int = 120, n_test: int = 30) -> Path:
    """Write a text project without its model; two training rows are copies of one test row, one with a wrong label."""
    folder.mkdir(parents=True, exist_ok=True)
    texts, labels = questions(n_train, 0)
    ids = [f"t{number}" for number in range(n_train)]
    train = pd.DataFrame({"id": [*ids, COPY, WRONG_COPY], "question": [*texts, PLANTED_TEXT, PLANTED_TEXT]})
    train["kind"] = [*labels, "person", "place"]
    texts, labels = questions(n_test, 1)
    test = pd.DataFrame({"id": [f"q{number}" for number in range(n_test)], "question": texts, "kind": labels})
    test.loc[len(test)] = [QUERY, PLANTED_TEXT, "person"]
    train.to_parquet(folder / "train.parquet")
    test.to_parquet(folder / "test.parquet")
    columns = "kind: parquet, id: id, text: question, label: kind"
    (folder / "project.yaml").write_text(
        f"name: questions\ntask: text-classification\nmodel: {{kind: {kind}, path: model/}}\n"
        f"train: {{path: train.parquet, {columns}}}\ntest: {{path: test.parquet, {columns}}}\n"
    )
    return folder


def word_tokenizer(texts: list[str]) -> Tokenizer:
    """Return a fast tokenizer made from the texts, framing each as encoders expect."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=special, show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def save_encoder(folder: Path, architecture: str, *, n_classes: int = 3, seed: int = 0, **changes: object) -> None:
    """Save a small random text classifier of a ``transformers`` family with its tokenizer."""
    import transformers
    from transformers import PreTrainedTokenizerFast

    tokenizer = word_tokenizer(questions(300, 0)[0])
    size = {"vocab_size": tokenizer.get_vocab_size(), "pad_token_id": 1, "num_labels": n_classes}
    size["id2label"] = dict(enumerate(CLASSES[:n_classes]))  # type: ignore[assignment]
    if architecture == "distilbert":
        shape = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 40}
        config = transformers.DistilBertConfig(**(size | shape | changes))  # type: ignore[arg-type]
        module = transformers.DistilBertForSequenceClassification(config)
    else:
        shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
        shape["max_position_embeddings"] = 40
        family = {"bert": "Bert", "roberta": "Roberta"}[architecture]
        config = getattr(transformers, f"{family}Config")(**(size | shape | changes))
        torch.manual_seed(seed)
        module = getattr(transformers, f"{family}ForSequenceClassification")(config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():  # as different as a trained model's: initial ones are all near 0
            value.add_(0.2 * torch.randn_like(value))
    module.save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(folder)
