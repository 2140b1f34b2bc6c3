"""Routes of a loop's model: exported, imported, reset."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from adapters.model_archive import LARGEST_MODEL, BadArchive, BadSignature
from decision_service.access import Admin, Reader
from decision_service.api import NOT_FOUND, PROBLEMS
from decision_service.configure import export_model, import_model, reset_model
from decision_service.problems import Problem, ProblemOut
from decision_service.shapes import LoopName
from decision_service.state import Service

OCTETS = "application/octet-stream"
# Deflate adds little where nothing can be made smaller.
LARGEST_ARCHIVE = LARGEST_MODEL + 1024 * 1024
_BINARY: dict[str, Any] = {OCTETS: {"schema": {"type": "string", "format": "binary"}}}
_ARCHIVE = {OCTETS: {**_BINARY[OCTETS], "example": "the bytes of model.vw.zip"}}
BYTES: dict[int | str, dict[str, Any]] = {200: {"description": "The bytes.", "content": _BINARY}}
CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": ProblemOut, "description": "The model does not fit the loop; nothing has changed."},
}
TOO_LARGE: dict[int | str, dict[str, Any]] = {413: {"model": ProblemOut, "description": "The body is too large."}}
router = APIRouter(responses=PROBLEMS)


class ModelPropertiesOut(BaseModel):
    """When a loop's model began (trained anew, imported or reset), and when it was last published."""

    created_at: datetime
    modified_at: datetime


@router.get(
    "/v1/loops/{loop}/model", tags=["loops"], summary="Export the model", response_class=Response,
    responses=NOT_FOUND | BYTES,
)  # fmt: skip
async def get_model(
    loop: LoopName,
    request: Request,
    caller: Reader,
    signed: Annotated[bool, Query(description="As an archive that can be imported: model, metadata, proof.")] = False,
) -> Response:
    """The published snapshot's bytes exactly as they are stored: Vowpal Wabbit reads them with the loop's arguments."""
    found = await export_model(_service(request), loop, signed=signed)
    name = "model.vw.zip" if signed else "model.vw"
    headers = {
        "Content-Disposition": f"attachment; filename={name}",
        "Last-Modified": format_datetime(found.modified_at.astimezone(UTC).replace(microsecond=0), usegmt=True),
    }
    return Response(found.data, media_type=OCTETS, headers=headers)


@router.put(
    "/v1/loops/{loop}/model", status_code=204, tags=["loops"], summary="Import a model",
    responses=NOT_FOUND | CONFLICT | TOO_LARGE,
    openapi_extra={"requestBody": {"required": True, "content": _ARCHIVE}},
)  # fmt: skip
async def put_model(loop: LoopName, request: Request, caller: Admin) -> Response:
    """Go on from a signed export of this installation, with its arguments; answered when every worker serves it.

    What is no such archive is refused as "Bad model archive", what was altered or signed elsewhere as "Bad model
    signature"; the model then stays. 503 when no learner takes it within 5 seconds.
    """
    archive = await _body(request)
    try:
        await import_model(_service(request), loop, archive, caller)
    except BadArchive as error:
        raise Problem(400, "Bad model archive", str(error)) from None
    except BadSignature as error:
        raise Problem(400, "Bad model signature", str(error)) from None
    return Response(status_code=204)


@router.delete(
    "/v1/loops/{loop}/model", status_code=204, tags=["loops"], summary="Reset the model", responses=NOT_FOUND | CONFLICT
)
async def delete_model(loop: LoopName, request: Request, caller: Admin) -> Response:
    """Begin anew, untrained; answered when every worker serves it. The log stays, and is learned no more.

    503 when no learner takes it within 5 seconds.
    """
    await reset_model(_service(request), loop, caller)
    return Response(status_code=204)


@router.get("/v1/loops/{loop}/model/properties", tags=["loops"], summary="When the model was made", responses=NOT_FOUND)
async def get_properties(loop: LoopName, request: Request, caller: Reader) -> ModelPropertiesOut:
    """When the model began, and when it was last published."""
    found = await export_model(_service(request), loop)
    return ModelPropertiesOut(created_at=found.created_at, modified_at=found.modified_at)


async def _body(request: Request) -> bytes:
    """The whole body, which may be larger than other calls' bodies.

    Raises:
        Problem: 413 when no model could be so large.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > LARGEST_ARCHIVE:
            raise Problem(413, "Too large", f"the body is larger than {LARGEST_ARCHIVE} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
