"""The stores that tests share: a private PostgreSQL and Valkey, migrated by the real migrations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from xdist.scheduler import LoadScopeScheduling

from adapters.embedded import join
from adapters.installation import Installation, open_installation
from adapters.settings import Settings
from contextual_bandit.policy import uniform_number
from contextual_bandit.types import (
    Action,
    Context,
    Decision,
    Distribution,
    Features,
    LoggedInteraction,
    SlotDecision,
    Use,
)
from migrations.__main__ import migrate

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)

# The same examples everywhere, and no failure because a machine was busy.
hypothesis_settings.register_profile("offerloop", deadline=None, derandomize=True)
hypothesis_settings.load_profile("offerloop")

# Tests of these folders share servers, which start once when they run in one process after the other.
SHARING_SERVERS = ("clients", "loop", "personalizer", "ports", "web")


class ByServers(LoadScopeScheduling):
    """Shares files out among processes; the files of folders whose tests share servers stay together."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        folder = file.removeprefix("tests/").split("/", 1)[0]
        return folder if folder in SHARING_SERVERS else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServers:
    return ByServers(config, log)


MakeDecision = Callable[..., Decision]
MakeInteraction = Callable[..., LoggedInteraction]


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation of its own, empty but for the default loop; tests keep apart by using names of their own."""
    data_dir = tmp_path_factory.mktemp("installation") / "var"
    settings = Settings(data_dir=data_dir, database_url=None, redis_url=None, admin_key=None)
    with join(data_dir), open_installation(settings) as opened:
        migrate(opened)
        yield opened


@pytest.fixture
def now() -> datetime:
    """A Monday morning; nothing that is tested reads a clock."""
    return NOW


def _decision(
    decision_id: str = "d1",
    *,
    loop: str = "homepage",
    served: Sequence[float] = (0.75, 0.25),
    chosen: int = 0,
    context: Mapping[str, Features] | None = None,
    actions: Sequence[Action] | None = None,
    decided_at: datetime = NOW,
    use: Use = "learn",
    deferred: bool = False,
    request_hash: str = "h",
) -> Decision:
    if actions is None:
        actions = [Action(f"offer-{index}", {"category": f"c{index}"}) for index in range(len(served))]
    slot = SlotDecision(
        chosen, Distribution(tuple(served), tuple(served)), served[chosen], uniform_number(loop, decision_id)
    )
    return Decision(
        loop=loop,
        decision_id=decision_id,
        decided_at=decided_at,
        occurred_at=decided_at,
        customer_id="customer-1",
        context=Context({"H": {"segment": "new"}} if context is None else context),
        actions=tuple(actions),
        removed=(),
        slots=(slot,),
        policy_id="policy-1",
        snapshot_id="snapshot-1",
        learning_mode="online",
        use=use,
        deferred=deferred,
        request_hash=request_hash,
    )


@pytest.fixture(scope="session")
def make_decision() -> MakeDecision:
    """A decision among two offers, unless told otherwise."""
    return _decision


@pytest.fixture(scope="session")
def make_interaction() -> MakeInteraction:
    """A closed interaction; keywords as for a decision."""

    def make(sequence: int, reward: float = 0.0, **keywords: object) -> LoggedInteraction:
        decision = _decision(f"d{sequence}", **keywords)  # type: ignore[arg-type]
        return LoggedInteraction(sequence, decision, reward, decision.use, decision.decided_at)

    return make
