"""Every setting of the installation, read from the environment; only processes read it, where they are wired."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Names in the environment carry the prefix OFFERLOOP_; docs/SETTINGS.md explains each."""

    model_config = SettingsConfigDict(env_prefix="OFFERLOOP_", extra="ignore")

    database_url: str | None = Field(
        default=None, description="PostgreSQL; absent = a private server under the data folder."
    )
    redis_url: str | None = Field(
        default=None, description="Valkey or Redis; absent = a private server under the data folder."
    )
    data_dir: Path = Field(default=Path("var"), description="Folder of the private servers, logs and reports.")
    admin_key: SecretStr | None = Field(default=None, description="An API key with every right.")
    cors_origins: str | None = Field(
        default=None, description="Origins whose pages may call, with commas between; absent = none."
    )
    host: str = Field(default="127.0.0.1", description="Address the decision service binds.")
    port: int = Field(default=8080, ge=0, le=65535, description="Its port; 0 = any free one.")
    workers: int = Field(default=1, ge=1, le=64, description="Worker processes of the decision service.")
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")
    batch_size: int = Field(default=4000, ge=1, le=20000, description="Stream messages per learner transaction.")
    checkpoint_seconds: float = Field(default=30.0, gt=0, description="Longest time between two model checkpoints.")
    snapshot_poll_seconds: float = Field(
        default=0.25, gt=0, le=1, description="How often services look for new snapshots."
    )
    profile_cache_seconds: float = Field(
        default=1.0, ge=0, le=1, description="Age at which a cached profile is read again."
    )
    weather_url: str | None = Field(
        default=None, description="Address of Open-Meteo's API; absent = weather from requests and the table alone."
    )
    weather_api_key: SecretStr | None = Field(default=None, description="Its key, where it asks for one.")
    weather_timeout_seconds: float = Field(
        default=0.3, gt=0, le=5, description="Longest time that a decision waits for the weather."
    )
    body_timeout_seconds: float = Field(
        default=60.0, gt=0, le=3600, description="Longest time that the body of a Personalizer call may take to arrive."
    )
    evaluated_events: int = Field(
        default=20_000_000, ge=1, description="Most logged events in the range of one Personalizer evaluation."
    )
    waiting_evaluations: int = Field(
        default=1000, ge=1, description="Most Personalizer evaluations of one loop that are not done."
    )
    decided_ttl_seconds: int = Field(
        default=172800, ge=3600, description="How long Redis answers repeats of a decision id."
    )


def load_settings() -> Settings:
    """Settings from the environment.

    Raises:
        pydantic.ValidationError: names the setting and its value.
    """
    return Settings()
