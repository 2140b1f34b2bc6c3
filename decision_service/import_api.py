"""Routes of the catalogue as a whole: import, export, and how each offer was at every version."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from adapters.catalogue import OfferVersion
from decision_service.access import Admin, Reader
from decision_service.api import NOT_FOUND, PROBLEMS
from decision_service.catalogue_schemas import OfferOut
from decision_service.import_rows import (
    LARGEST_FILE,
    BadFile,
    Checked,
    OfferRowIn,
    check_csv,
    check_json,
    write_csv,
    write_json,
)
from decision_service.problems import Problem, ProblemOut, bad_field, not_found
from decision_service.records import offer_out
from decision_service.serving import utc_now
from decision_service.shapes import Id, In
from decision_service.state import Service

CHECKS: Mapping[str, Callable[[bytes], Checked]] = {"application/json": check_json, "text/csv": check_csv}
_CSV_EXAMPLE = (
    "offer_id,category,type,discount,channels,stock,creative.title,feature.size\n"
    "spring-10,garden,percentage,0.1,web|app,5000,Spring in your garden,large\n"
)
_FILE: dict[str, Any] = {
    "application/json": {"schema": {"$ref": "#/components/schemas/OfferFileIn"}},
    "text/csv": {"schema": {"type": "string"}, "example": _CSV_EXAMPLE},
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    413: {"model": ProblemOut, "description": "The file is larger than 20 MB; nothing was imported."},
    415: {"model": ProblemOut, "description": "Neither application/json nor text/csv."},
}
router = APIRouter(responses=PROBLEMS, tags=["offers"])


class OfferFileIn(In):
    """A catalogue, as an export gives it and an import takes it."""

    offers: list[OfferRowIn] = Field(max_length=50_000)


class ImportOut(BaseModel):
    """What became of the offers of a file; of a dry run, what would."""

    imported: int = Field(description="Offers of the file: created, updated and unchanged.")
    created: int
    updated: int = Field(description="Each has a new version.")
    unchanged: int = Field(description="They say nothing new and keep their version.")
    dry_run: bool = False


class OfferVersionOut(OfferOut):
    """An offer as it was from ``created_at`` until its next version."""

    created_at: datetime


class OfferVersionsOut(BaseModel):
    """Versions of an offer, newest first."""

    versions: list[OfferVersionOut]


@router.post(
    "/v1/offers/import",
    summary="Import offers",
    responses=_REFUSALS,
    openapi_extra={"requestBody": {"required": True, "content": _FILE}},
)
async def import_offers(
    request: Request,
    caller: Admin,
    dry_run: Annotated[bool, Query(description="Check, and say what would change; write nothing.")] = False,
) -> ImportOut:
    r"""Create and replace offers from a file, all of it or nothing.

    At most 20 MB and 50,000 rows, in UTF-8. JSON is `{"offers": [...]}` or an array of offers with their `offer_id`.
    CSV has a header, and commas or semicolons between cells; a column for each field of an offer, for each of its
    limits, and `creative.NAME` and `feature.NAME`. An empty cell is absent. `channels`, `regions`, `tags`, `excludes`
    and `requires` are separated by `|` (`\|` in an entry), `caps` and `rules` are JSON. A feature's cell that is a
    number, true or false is one, unless an apostrophe stands before it. Numbers have a decimal point.

    When any row is bad nothing is written, and `errors` has the first 100 errors of all rows, such as
    `rows.7.discount`: in CSV the line of the row, in JSON its index from 0. Offers that are not in the file stay as
    they are, and a row replaces the whole offer: what it does not say is gone. One that says nothing new keeps its
    version, so a file can be imported again.
    """
    service = _service(request)
    check = CHECKS.get(request.headers.get("content-type", "").partition(";")[0].strip().lower())
    if check is None:
        sent = request.headers.get("content-type")
        raise Problem(415, "Unsupported media type", f"send application/json or text/csv, not {sent!r}")
    checked = await asyncio.to_thread(_check, check, await _file(request))
    put = partial(service.sources.catalogue.change, checked.offers, caller, utc_now(), dry_run=dry_run)
    changes = await asyncio.to_thread(put)
    if not dry_run:
        await service.serving.refresh()
    return ImportOut(
        imported=checked.rows, created=changes.created, updated=changes.updated, unchanged=changes.unchanged,
        dry_run=dry_run,
    )  # fmt: skip


@router.get(
    "/v1/offers/export",
    summary="Export offers",
    response_class=Response,
    responses={200: {"model": OfferFileIn, "content": {"text/csv": _FILE["text/csv"]}, "description": "The file."}},
)
async def export_offers(
    request: Request,
    caller: Reader,
    wanted: Annotated[Literal["csv", "json"], Query(alias="format")] = "csv",
) -> Response:
    """Every offer as a file that an import takes and finds unchanged.

    CSV begins with a byte order mark, so that spreadsheets read it as UTF-8. Text that a spreadsheet would run as a
    formula (it begins with `=`, `+`, `-` or `@`) has an apostrophe before it, which an import takes away.
    """
    offers = await asyncio.to_thread(_service(request).sources.catalogue.all)
    write, media_type = (write_csv, "text/csv; charset=utf-8") if wanted == "csv" else (write_json, "application/json")
    headers = {"content-disposition": f'attachment; filename="offers.{wanted}"'}
    return Response(await asyncio.to_thread(write, offers), headers=headers, media_type=media_type)


@router.get("/v1/offers/{offer_id}/versions", summary="List an offer's versions", responses=NOT_FOUND)
async def list_versions(offer_id: Id, request: Request, caller: Reader) -> OfferVersionsOut:
    """Every version, newest first; those of a deleted offer stay."""
    versions = await asyncio.to_thread(_service(request).sources.catalogue.versions, offer_id)
    if not versions:
        raise not_found("offer", offer_id)
    return OfferVersionsOut(versions=[_version_out(version) for version in versions])


@router.get("/v1/offers/{offer_id}/versions/{version}", summary="Read an offer as it was", responses=NOT_FOUND)
async def get_version(
    offer_id: Id, version: Annotated[int, Path(ge=1, lt=2**31)], request: Request, caller: Reader
) -> OfferVersionOut:
    """The offer that a logged decision saw, by the version that it names."""
    found = await asyncio.to_thread(_service(request).sources.catalogue.at_version, offer_id, version)
    if found is None:
        raise not_found("version of an offer", f"{offer_id} {version}")
    return _version_out(found)


def _check(check: Callable[[bytes], Checked], data: bytes) -> Checked:
    """The rows of a file, all of them good.

    Raises:
        Problem: 400.
    """
    try:
        checked = check(data)
    except BadFile as error:
        raise Problem(400, "Bad request", f"{error}; nothing was imported") from None
    if checked.errors:
        found = [bad_field(error.path, error.value, error.why) for error in checked.errors]
        count = f"{checked.error_count} error{'s' * (checked.error_count > 1)}"
        raise Problem(
            400, "Bad request", f"{count}, so nothing was imported; the first is {found[0].detail}",
            [problem.errors[0] for problem in found],
        )  # fmt: skip
    return checked


async def _file(request: Request) -> bytes:
    """The request's body, which may be larger than others.

    Raises:
        Problem: 413.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LARGEST_FILE:
            raise Problem(413, "Too large", f"the file is larger than {LARGEST_FILE} bytes; nothing was imported")
        chunks.append(chunk)
    return b"".join(chunks)


def _version_out(version: OfferVersion) -> OfferVersionOut:
    shown = offer_out(version.offer).model_dump()
    return OfferVersionOut.model_validate({**shown, "created_at": version.created_at})


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
