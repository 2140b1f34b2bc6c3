"""Routes of regions: where customers and stores are, for holidays, seasons and the weather."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, StringConstraints

from contextual_bandit.season import Region, is_known_place
from decision_service.access import Admin, Reader
from decision_service.api import NOT_FOUND, PROBLEMS
from decision_service.problems import bad_field, not_found
from decision_service.serving import utc_now
from decision_service.shapes import In, RegionName
from decision_service.state import Service

Code = Annotated[str, StringConstraints(min_length=1, max_length=64)]
router = APIRouter(responses=PROBLEMS, tags=["regions"])


class RegionIn(In):
    """A region. Its coordinates are for weather providers; no policy ever sees them."""

    time_zone: Code = Field(examples=["America/Los_Angeles"], description="IANA name; seasons and days go by it.")
    country: Code | None = Field(
        default=None, examples=["US"], description="Two letters (ISO 3166-1); absent = no holidays."
    )
    subdivision: Code | None = Field(default=None, examples=["WA"], description="Part of the country with its own.")
    latitude: Annotated[float, Field(ge=-90, le=90)] | None = Field(default=None, examples=[47.61])
    longitude: Annotated[float, Field(ge=-180, le=180)] | None = Field(default=None, examples=[-122.33])
    southern: bool | None = Field(default=None, description="Southern seasons; absent = as the latitude says.")


class RegionOut(RegionIn):
    """A stored region."""

    region: str


class RegionsOut(BaseModel):
    """Every region."""

    regions: list[RegionOut]


@router.get("/v1/regions", summary="List regions")
async def list_regions(request: Request, caller: Reader) -> RegionsOut:
    """Every region, by name."""
    regions = await asyncio.to_thread(_service(request).sources.regions.all)
    return RegionsOut(regions=[region_out(region) for region in regions])


@router.put("/v1/regions/{region}", summary="Create or replace a region")
async def put_region(region: RegionName, body: RegionIn, request: Request, caller: Admin) -> RegionOut:
    """Decisions that name it get its holidays, its seasons and, with coordinates, its weather."""
    service = _service(request)
    check(body)
    stored = await asyncio.to_thread(
        service.sources.regions.put, Region(region, **body.model_dump()), caller, utc_now()
    )  # fmt: skip
    await service.serving.refresh()
    return region_out(stored)


@router.get("/v1/regions/{region}", summary="Read a region", responses=NOT_FOUND)
async def get_region(region: RegionName, request: Request, caller: Reader) -> RegionOut:
    """One region."""
    stored = await asyncio.to_thread(_service(request).sources.regions.get, region)
    if stored is None:
        raise not_found("region", region)
    return region_out(stored)


@router.delete("/v1/regions/{region}", status_code=204, summary="Delete a region", responses=NOT_FOUND)
async def delete_region(region: RegionName, request: Request, caller: Admin) -> Response:
    """Its imported weather stays, and would be a new region's of that name."""
    service = _service(request)
    if not await asyncio.to_thread(service.sources.regions.delete, region, caller, utc_now()):
        raise not_found("region", region)
    await service.serving.refresh()
    return Response(status_code=204)


def check(body: RegionIn) -> None:
    """Refuse what no calendar or provider could use.

    Raises:
        Problem: 400, names the field and its value.
    """
    try:
        ZoneInfo(body.time_zone)
    except (OSError, ValueError, LookupError):
        raise bad_field("time_zone", body.time_zone, "is no IANA time zone") from None
    if body.country is None:
        if body.subdivision is not None:
            raise bad_field("subdivision", body.subdivision, "needs a country")
    elif not is_known_place(body.country):
        raise bad_field("country", body.country, "is no two-letter code of a country whose holidays are known")
    elif body.subdivision is not None and not is_known_place(body.country, body.subdivision):
        raise bad_field("subdivision", body.subdivision, f"is no known subdivision of {body.country}")
    if (body.latitude is None) != (body.longitude is None):
        missing = "latitude" if body.latitude is None else "longitude"
        raise bad_field(missing, None, "latitude and longitude go together")


def region_out(region: Region) -> RegionOut:
    """A stored region as the API shows it."""
    return RegionOut.model_validate(asdict(region))


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
