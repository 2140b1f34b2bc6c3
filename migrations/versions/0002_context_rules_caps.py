"""Regions, weather, precomputed values, units that come back; customers and outcome kinds as records."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema from its first tables to those of context, rules and caps."""
    op.create_table(
        "regions",
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("record", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("region", name=op.f("pk_regions")),
    )
    op.create_table(
        "weather",
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("record", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("region", "at", name=op.f("pk_weather")),
    )
    op.create_table(
        "precomputed",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_precomputed")),
    )
    op.create_table(
        "unit_changes",
        sa.Column("change_id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("loop", sa.Text(), nullable=False),
        sa.Column("decision_id", sa.Text(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("offer_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("shown_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("change_id", name=op.f("pk_unit_changes")),
    )
    op.create_index(op.f("ix_unit_changes_loop_change_id"), "unit_changes", ["loop", "change_id"], unique=False)
    op.add_column("activities", sa.Column("order_id", sa.Text(), nullable=True))
    # A customer's record held the demographics alone.
    op.execute("UPDATE customers SET record = jsonb_build_object('demographics', record)")
    # An outcome kind was a number.
    op.execute(
        "UPDATE loops SET config = jsonb_set(config, '{reward,kinds}', (SELECT coalesce(jsonb_object_agg(key, "
        "jsonb_build_object('worth', value, 'measure', 'count', 'correction', false)), '{}') "
        "FROM jsonb_each(config->'reward'->'kinds')))"
    )


def downgrade() -> None:
    """Take back."""
    op.execute(
        "UPDATE loops SET config = jsonb_set(config, '{reward,kinds}', (SELECT coalesce(jsonb_object_agg(key, "
        "value->'worth'), '{}') FROM jsonb_each(config->'reward'->'kinds')))"
    )
    op.execute("UPDATE customers SET record = coalesce(record->'demographics', '{}')")
    op.drop_column("activities", "order_id")
    op.drop_index(op.f("ix_unit_changes_loop_change_id"), table_name="unit_changes")
    op.drop_table("unit_changes")
    op.drop_table("precomputed")
    op.drop_table("weather")
    op.drop_table("regions")
