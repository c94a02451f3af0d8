"""Where a set of rows lies and which of its columns mean what: one entry of ``project.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

DEFAULT_COLUMNS = {"id": "id", "image": "image", "text": "text", "label": "label", "label_name": "label_name"}


class RowSource(BaseModel):
    """One set of rows. A column left out is looked for under its usual name; a column named must be there.

    Without an id column, ids are row numbers from 0; without a label column, rows are unlabelled. ``label`` holds class
    names, or codes from 0. For ``folder`` the columns are not used: each class is a folder and an id is the path.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["parquet", "csv", "jsonl", "folder", "datasets"]
    path: str = Field(min_length=1, description="File, folder or pattern inside the project; for datasets also a name")
    id: str | None = Field(default=None, description="Column of unique ids")
    image: str | None = Field(default=None, description="Column of image bytes or of paths to image files")
    text: str | None = Field(default=None, description="Column of texts")
    caption: str | None = Field(default=None, description="Column of what images show, for text-to-image models")
    label: str | None = Field(default=None, description="Column of labels: class names or codes from 0")
    label_name: str | None = Field(default=None, description="Column that names the codes of the label column")
    split: str | None = Field(default=None, description="For datasets with several splits: train, test, …")
