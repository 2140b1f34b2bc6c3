"""Policies beside a loop's own: their snapshots, and how far each has followed the log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, and the column that tells whose a snapshot is."""
    op.add_column("policy_snapshots", sa.Column("challenger", sa.Text(), server_default="", nullable=False))
    op.create_table(
        "challengers",
        sa.Column("loop", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("trained_through", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("state", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("model", sa.LargeBinary(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("loop", "name", name=op.f("pk_challengers")),
    )


def downgrade() -> None:
    """Remove both; the loop's own snapshots stay."""
    op.drop_table("challengers")
    op.execute("DELETE FROM policy_snapshots WHERE challenger <> ''")
    op.drop_column("policy_snapshots", "challenger")
