"""The queue of jobs."""

import sqlalchemy as sa
from alembic import op

revision = "queue_0001"
down_revision = None
branch_labels = None
depends_on = None

ACTIVE = sa.text("state IN ('queued', 'running', 'paused')")


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("project", sa.String(1000), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("fingerprints", sa.JSON, nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("done", sa.Float, nullable=False),
        sa.Column("total", sa.Float, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("rate", sa.Float),
        sa.Column("log", sa.Text, nullable=False),
        sa.Column("error_title", sa.Text, nullable=False),
        sa.Column("error_hint", sa.Text, nullable=False),
        sa.Column("result", sa.JSON),
        sa.Column("peak_bytes", sa.BigInteger, nullable=False),
        sa.Column("threads", sa.Integer),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("crashed_at", sa.Float, nullable=False),
        sa.Column("halvings", sa.Integer, nullable=False),
        sa.Column("cancel_requested", sa.Integer, nullable=False),
        sa.Column("worker_pid", sa.Integer),
        sa.Column("heartbeat_s", sa.Float),
        sa.Column("boot", sa.String(40), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("started", sa.Float),
        sa.Column("finished", sa.Float),
        sqlite_autoincrement=True,
    )
    op.create_index("one_active_job", "jobs", ["project", "key"], unique=True, sqlite_where=ACTIVE)
    op.create_index("jobs_by_state", "jobs", ["state"])


def downgrade() -> None:
    op.drop_table("jobs")
