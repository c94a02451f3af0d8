"""Decisions of people on rows: append-only."""

import sqlalchemy as sa
from alembic import op

revision = "project_0002"
down_revision = "project_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "decisions",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("project", sa.String(1000), nullable=False),
        sa.Column("audit", sa.String(40), nullable=False),
        sa.Column("entry", sa.String(120), nullable=False),
        sa.Column("step", sa.String(120), nullable=False),
        sa.Column("split", sa.String(20), nullable=False),
        sa.Column("row_id", sa.Text, nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("label", sa.Integer),
        sa.Column("reviewer", sa.String(200), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("score", sa.Float),
        sa.Column("run_id", sa.String(80), nullable=False),
        sa.Column("undoes", sa.String(120)),
        sa.Column("settles", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("one_entry_once", "decisions", ["project", "audit", "entry"], unique=True)
    op.create_index("decisions_in_order", "decisions", ["project", "audit", "seq"])


def downgrade() -> None:
    op.drop_table("decisions")
