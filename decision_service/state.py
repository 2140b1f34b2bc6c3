"""One service process: its connections and parts, opened and closed in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import redis.asyncio

from adapters.catalogue import LoopStore, OfferCatalogue
from adapters.customers import CustomerStore
from adapters.installation import Installation, open_installation
from adapters.keys import KeyStore
from adapters.kill_switches import KillSwitchStore
from adapters.open_meteo import OpenMeteo
from adapters.precomputed import PrecomputedStore
from adapters.regions import RegionStore
from adapters.settings import Settings
from adapters.snapshots import SnapshotStore
from adapters.spool import Spool
from adapters.stream_writer import StreamWriter
from adapters.streams import connect_async
from adapters.table_marks import TableMarks
from adapters.telemetry import ServiceMetrics
from adapters.unit_counts import UnitCounts
from adapters.weather import Place, WeatherBook, WeatherTable
from contextual_bandit.weather import Observation
from decision_service.access import Access
from decision_service.circumstances import Circumstances
from decision_service.customers import Customers
from decision_service.ranking import Ranker
from decision_service.serving import Serving, Sources
from decision_service.together import Together
from decision_service.why import Explainer

log = logging.getLogger(__name__)
# Longer than a store that is away keeps a part waiting.
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Service:
    """The parts that routes use."""

    installation: Installation
    client: redis.asyncio.Redis
    writer: StreamWriter
    access: Access
    serving: Serving
    ranker: Ranker
    sources: Sources
    customers: CustomerStore
    metrics: ServiceMetrics
    explainer: Explainer
    settings: Settings


@asynccontextmanager
async def open_service(settings: Settings, metrics: ServiceMetrics) -> AsyncIterator[Service]:
    """Open everything, and on leaving send what waits before anything is closed."""
    with open_installation(settings) as installation:
        engine, sync = installation.engine, installation.client
        client = connect_async(installation.redis_url)
        sources = Sources(
            OfferCatalogue(engine, sync), LoopStore(engine, sync), KeyStore(engine, sync), SnapshotStore(engine, sync),
            RegionStore(engine, sync), PrecomputedStore(engine, sync), KillSwitchStore(engine, sync),
            TableMarks(engine),
        )  # fmt: skip
        access = Access(settings.admin_key.get_secret_value() if settings.admin_key else None)
        serving = Serving(sources, client, access, metrics, settings.snapshot_poll_seconds)
        writer = StreamWriter(client, Spool(settings.data_dir / "spool"))
        customers = CustomerStore(engine, sync)
        known = Customers(writer, CustomerStore(installation.reader, sync), settings.profile_cache_seconds)
        access.refresh = serving.refresh
        weather = _weather(settings, installation, serving)
        explainer = Explainer(sources.snapshots)
        ranker = Ranker(
            serving, writer, client, installation.reader, Circumstances(serving, known, weather),
            UnitCounts(engine, sync), metrics, settings.decided_ttl_seconds,
        )  # fmt: skip
        await writer.start()
        await serving.start()
        try:
            yield Service(
                installation, client, writer, access, serving, ranker, sources, customers, metrics, explainer, settings
            )  # fmt: skip
        finally:
            steps = {
                "serving": serving.stop, "customers": known.stop, "writer": writer.stop, "weather": weather.close,
                "client": client.aclose,
            }  # fmt: skip
            for name, stop in steps.items():
                await _stopped(name, stop)
            explainer.close()


async def _stopped(name: str, stop: Callable[[], Awaitable[None]]) -> None:
    """Stop a part, and go on without it when it does not: whoever waits for its answer was promised nothing."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await stop()
    except TimeoutError:
        log.exception("does not stop", extra={"part": name, "seconds": STOP_SECONDS})


def _weather(settings: Settings, installation: Installation, serving: Serving) -> WeatherBook:
    """The weather by table, and by Open-Meteo where its address is set."""
    table = WeatherTable(installation.reader)
    together = Together[Place, Observation](table.read_many)
    key = settings.weather_api_key.get_secret_value() if settings.weather_api_key else None
    open_meteo = OpenMeteo(settings.weather_url, api_key=key) if settings.weather_url else None
    return WeatherBook(together.get, serving.regions_by_name, open_meteo, wait_seconds=settings.weather_timeout_seconds)
