"""All PostgreSQL tables; migrations and adapters import them, nobody else."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(
    naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_N_name)s"},
)


def _at(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


loops = Table(
    "loops",
    metadata,
    Column("loop", Text, primary_key=True),
    Column("config", JSONB, nullable=False),
    Column("version", Integer, nullable=False),
    Column("deleted", Boolean, nullable=False, server_default="false"),
    _at("updated_at"),
)

offers = Table(
    "offers",
    metadata,
    Column("offer_id", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("record", JSONB, nullable=False),
    _at("updated_at"),
)

offer_versions = Table(
    "offer_versions",
    metadata,
    Column("offer_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("record", JSONB, nullable=False),
    _at("created_at"),
    PrimaryKeyConstraint("offer_id", "version"),
)

customers = Table(
    "customers",
    metadata,
    Column("customer_id", Text, primary_key=True),
    Column("record", JSONB, nullable=False),
    _at("updated_at"),
)

profiles = Table(
    "profiles",
    metadata,
    Column("customer_id", Text, primary_key=True),
    Column("state", LargeBinary, nullable=False),
    Column("position", Text, nullable=False),
    _at("updated_at"),
)

activities = Table(
    "activities",
    metadata,
    Column("activity_id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("category", Text),
    Column("offer_id", Text),
    Column("amount", Float),
    Column("order_id", Text),
    _at("occurred_at"),
    Column("position", Text, nullable=False),
    Index(None, "customer_id"),
)

regions = Table(
    "regions",
    metadata,
    Column("region", Text, primary_key=True),
    Column("record", JSONB, nullable=False),
    _at("updated_at"),
)

weather = Table(
    "weather",
    metadata,
    Column("region", Text, nullable=False),
    _at("at"),
    Column("record", JSONB, nullable=False),
    PrimaryKeyConstraint("region", "at"),
)

precomputed = Table(
    "precomputed",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    _at("updated_at"),
)

unit_changes = Table(
    "unit_changes",
    metadata,
    Column("change_id", BigInteger, primary_key=True, autoincrement=True),
    Column("loop", Text, nullable=False),
    Column("decision_id", Text, nullable=False),
    Column("change", Text, nullable=False),
    Column("offer_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("customer_id", Text),
    _at("shown_at"),
    _at("changed_at"),
    Index(None, "loop", "change_id"),
)

stream_positions = Table(
    "stream_positions",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("position", Text, nullable=False),
    _at("stream_time", nullable=True),
    Column("sequence", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("suspect", BigInteger),
    Column("suspect_tries", Integer, nullable=False, server_default="0"),
    Column("holds", JSONB, nullable=False, server_default="{}"),
)

decision_keys = Table(
    "decision_keys",
    metadata,
    Column("loop", Text, nullable=False),
    Column("decision_id", Text, nullable=False),
    Column("request_hash", Text, nullable=False),
    _at("decided_at"),
    PrimaryKeyConstraint("loop", "decision_id"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("loop", Text, nullable=False),
    Column("decision_id", Text, nullable=False),
    _at("decided_at"),
    Column("customer_id", Text),
    Column("offer_id", Text, nullable=False),
    Column("propensity", Float),
    Column("policy_id", Text, nullable=False),
    Column("snapshot_id", Text, nullable=False),
    Column("use", Text, nullable=False),
    Column("position", Text, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("shown", JSONB),
    PrimaryKeyConstraint("loop", "decision_id", "decided_at"),
    Index(None, "customer_id"),
    postgresql_partition_by="RANGE (decided_at)",
)

open_decisions = Table(
    "open_decisions",
    metadata,
    Column("loop", Text, nullable=False),
    Column("decision_id", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    _at("decided_at"),
    _at("closes_at"),
    Column("position", Text, nullable=False),
    PrimaryKeyConstraint("loop", "decision_id"),
    Index(None, "loop", "closes_at"),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("loop", Text, nullable=False),
    Column("outcome_id", Text, nullable=False),
    Column("decision_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("value", Float, nullable=False),
    Column("final", Boolean, nullable=False),
    _at("received_at"),
    Column("position", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("slot", JSONB),
    PrimaryKeyConstraint("loop", "outcome_id"),
    Index(None, "loop", "decision_id"),
)

interactions = Table(
    "interactions",
    metadata,
    Column("loop", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("decision_id", Text, nullable=False),
    _at("decided_at"),
    _at("closed_at"),
    Column("reward", Float, nullable=False),
    Column("use", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("set_aside", Boolean, nullable=False),
    Column("slot_rewards", ARRAY(Float)),
    PrimaryKeyConstraint("loop", "sequence", "revision", "decided_at"),
    Index(None, "loop", "decision_id"),
    postgresql_partition_by="RANGE (decided_at)",
)

policy_snapshots = Table(
    "policy_snapshots",
    metadata,
    Column("snapshot_id", Text, primary_key=True),
    Column("loop", Text, nullable=False),
    Column("policy_id", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("trained_through", BigInteger, nullable=False),
    _at("stream_time", nullable=True),
    Column("parent", Text),
    Column("arguments", Text, nullable=False),
    Column("reward_low", Float, nullable=False),
    Column("reward_high", Float, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("model", LargeBinary, nullable=False),
    Column("reloads", Integer, nullable=False),
    _at("created_at"),
    _at("published_at", nullable=True),
    Column("challenger", Text, nullable=False, server_default=""),
    Index(None, "loop", "generation", "trained_through"),
)

challengers = Table(
    "challengers",
    metadata,
    Column("loop", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("trained_through", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("state", JSONB, nullable=False),
    Column("model", LargeBinary),
    _at("updated_at"),
    PrimaryKeyConstraint("loop", "name"),
)

kill_switches = Table(
    "kill_switches",
    metadata,
    Column("scope", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("is_on", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    _at("changed_at"),
    PrimaryKeyConstraint("scope", "name"),
)

performance = Table(
    "performance",
    metadata,
    Column("loop", Text, nullable=False),
    _at("minute_at"),
    Column("policy_id", Text, nullable=False),
    Column("offer_id", Text, nullable=False),
    Column("segment", Text, nullable=False),
    Column("decisions", BigInteger, nullable=False),
    Column("interactions", BigInteger, nullable=False),
    Column("reward_sum", Float, nullable=False),
    PrimaryKeyConstraint("loop", "minute_at", "policy_id", "offer_id", "segment"),
)

set_aside_events = Table(
    "set_aside_events",
    metadata,
    Column("stream", Text, nullable=False),
    Column("position", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("error", Text, nullable=False),
    PrimaryKeyConstraint("stream", "position"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("arguments", JSONB, nullable=False),
    Column("state", Text, nullable=False),
    Column("progress", Float, nullable=False),
    Column("result", JSONB),
    Column("error", Text),
    Column("attempts", Integer, nullable=False),
    _at("created_at"),
    _at("updated_at"),
    Index(None, "state", "created_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("key_sha256", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    _at("created_at"),
    _at("revoked_at", nullable=True),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("evaluation_id", Text, primary_key=True),
    Column("loop", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("request", JSONB, nullable=False),
    Column("job_id", Text, nullable=False),
    Column("result", JSONB),
    Column("page", Text),
    _at("created_at"),
    Column("ended_at", DateTime(timezone=True)),
    Index(None, "loop", "created_at"),
)

operations = Table(
    "operations",
    metadata,
    Column("operation_id", Text, primary_key=True),
    Column("loop", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("progress", Float, nullable=False),
    Column("version", Integer, nullable=False),
    Column("detail", JSONB, nullable=False),
    Column("model", LargeBinary),
    Column("error", Text),
    Column("attempts", Integer, nullable=False),
    Column("actor", Text, nullable=False),
    _at("created_at"),
    _at("updated_at"),
    Column("ended_at", DateTime(timezone=True)),
    Index(None, "loop", "created_at"),
)

apprentice_counts = Table(
    "apprentice_counts",
    metadata,
    Column("loop", Text, primary_key=True),
    Column("counts", JSONB, nullable=False),
    _at("updated_at"),
)

installation_keys = Table(
    "installation_keys",
    metadata,
    Column("name", Text, primary_key=True),
    Column("secret", LargeBinary, nullable=False),
    _at("created_at"),
)

personalizer_settings = Table(
    "personalizer_settings",
    metadata,
    Column("loop", Text, primary_key=True),
    Column("settings", JSONB, nullable=False),
    _at("updated_at"),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("audit_id", BigInteger, primary_key=True, autoincrement=True),
    _at("at"),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", JSONB, nullable=False),
)
