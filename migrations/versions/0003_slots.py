"""Several slots of one decision: what each shows, each one's reward, and which of them an outcome is about."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns that are empty for decisions without slots."""
    op.add_column("decisions", sa.Column("shown", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("outcomes", sa.Column("slot", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("interactions", sa.Column("slot_rewards", postgresql.ARRAY(sa.Float()), nullable=True))


def downgrade() -> None:
    """Take back."""
    op.drop_column("interactions", "slot_rewards")
    op.drop_column("outcomes", "slot")
    op.drop_column("decisions", "shown")
