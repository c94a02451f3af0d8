from __future__ import annotations

import copy
from typing import Any

import pytest

from forwardinf_core.errors import ProjectError
from forwardinf_core.projects.schema import SCHEMA_FILE, json_schema, mistakes, parse_config

GOOD: dict[str, Any] = {
    "name": "birds",
    "task": "image-classification",
    "model": {"kind": "baseline", "path": "model/"},
    "train": {"kind": "parquet", "path": "train.parquet", "id": "id", "image": "image", "label": "label"},
    "test": {"kind": "parquet", "path": "test.parquet"},
}
EXPORTED = {"kind": "exported", "path": "m.pt2", "classes": ["a", "b"], "mean": [0.5], "std": [0.5], "size": 8}


def with_value(field: str, value: object) -> dict[str, Any]:
    content = copy.deepcopy(GOOD)
    *path, last = field.split(".")
    place = content
    for part in path:
        place = place[part]
    place[last] = value
    return content


def sentence(content: dict[str, Any]) -> str:
    with pytest.raises(ProjectError) as caught:
        parse_config(content, "project.yaml")
    return f"{caught.value.title} | {caught.value.hint}"


def test_the_example_of_the_design_is_accepted() -> None:
    content = GOOD | {
        "model": {"kind": "transformers", "path": "model/"},
        "trusted": {"kind": "parquet", "path": "trusted.parquet"},
        "reference_label": "label",
        "checkpoints": ["ckpt/5", "ckpt/10"],
    }
    config = parse_config(content, "project.yaml")
    assert config.checkpoints == ("ckpt/5", "ckpt/10")
    assert config.train.label == "label"


def test_the_published_schema_is_up_to_date() -> None:
    assert SCHEMA_FILE.read_text() == json_schema(), "run: python -m forwardinf_core.projects.schema"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("modle", {}, ["modle is not a known key", "Did you mean model?"]),
        ("train.lable", "label", ["train.lable is not a known key", "Did you mean label?", "Keys of train"]),
        ("model.colour", "red", ["model.colour is not a known key", "Keys of model: kind, path"]),
        ("task", "segmentation", ['task is "segmentation"', "Expected image-classification"]),
        ("task", "causal-lm", ["is a language model", "forwardinf_core trace"]),
        ("task", "causal-ml", ["Did you mean causal-lm?"]),
        ("task", "image-clasification", ['"image-clasification"', "Did you mean image-classification?"]),
        ("model.kind", "transformer", ['model.kind is "transformer"', "Did you mean transformers?"]),
        ("model.path", "", ['model.path is ""', "at least 1 character"]),
        ("model.size", "big", ['model.size is "big"', "valid integer"]),
        ("model.size", 0, ["model.size is 0", "greater than or equal to 1"]),
        ("model.mean", [0.5], ["mean, std and size are given together", "only mean"]),
        ("model.classes", ["cat", True], ["model.classes", "true; put it in quotes"]),
        ("model.classes", ["cat", "cat"], ["cat is there twice"]),
        ("name", None, ["name is empty"]),
        ("train", "train.parquet", ['train is "train.parquet"']),
        ("train.kind", "parket", ["Did you mean parquet?"]),
    ],
)
def test_a_mistake_is_answered_with_field_value_and_expectation(field: str, value: object, said: list[str]) -> None:
    answer = sentence(with_value(field, value))
    for part in said:
        assert part in answer


def test_a_missing_part_is_named_with_the_keys_there_are() -> None:
    content = {key: value for key, value in GOOD.items() if key != "train"}
    assert "train is missing" in sentence(content)


def test_an_exported_program_must_say_how_images_reach_it() -> None:
    assert "classes, std must be given" in sentence(
        GOOD | {"model": {key: value for key, value in EXPORTED.items() if key not in ("classes", "std")}}
    )
    assert parse_config(GOOD | {"model": EXPORTED}, "project.yaml").model.classes == ("a", "b")


@pytest.mark.parametrize(("change", "said"), [({"mean": [0.1, 0.2]}, "1 number"), ({"std": [1, 1, 1]}, "must agree")])
def test_mean_and_std_have_a_number_for_each_channel(change: dict[str, Any], said: str) -> None:
    assert said in sentence(GOOD | {"model": EXPORTED | change})


def test_class_names_and_project_names_may_be_numbers() -> None:
    config = parse_config(GOOD | {"name": 2024, "model": EXPORTED | {"classes": [0, 1]}}, "project.yaml")
    assert (config.name, config.model.classes) == ("2024", ("0", "1"))


def test_all_mistakes_are_listed_at_once() -> None:
    content = with_value("model.kind", "resnet") | {"task": "segmentation", "tset": {}}
    del content["test"]
    titles = " ".join(error.title for error in mistakes(content, "project.yaml"))
    for part in ("model.kind", "segmentation", "tset", "test is missing"):
        assert part in titles
