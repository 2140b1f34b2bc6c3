"""Routes of the Personalizer API about a loop's model and its log."""

from __future__ import annotations

import asyncio
from email.utils import format_datetime

from starlette.responses import Response

from adapters.model_archive import BadArchive, BadSignature
from decision_service.configure import OperationFailed, delete_log, export_model, import_model, reset_model
from decision_service.personalizer_call import LARGEST_MODEL, Call
from decision_service.personalizer_errors import HEADERS, invalid, json_response, no_content
from decision_service.personalizer_times import format_time
from decision_service.problems import Problem

BYTES = "application/octet-stream"


async def get_model(call: Call) -> Response:
    """``GET /model``: the stored snapshot's bytes, or the signed archive."""
    signed = call.request.query_params.get("signed", "false").lower()
    if signed not in ("true", "false"):
        raise invalid("InvalidRequest", f"signed must be true or false, got {signed!r}", "signed")
    await call.settings()
    model = await export_model(call.service, call.loop, signed=signed == "true")
    name = "model.vw.zip" if signed == "true" else "model.vw"
    headers = {
        **HEADERS,
        "Content-Disposition": f"attachment; filename={name}",
        "Last-Modified": format_datetime(model.modified_at.replace(microsecond=0), usegmt=True),
    }
    return Response(model.data, 200, headers, BYTES)


async def put_model(call: Call) -> Response:
    """``PUT /model``: a signed archive replaces the model."""
    archive = await call.body(LARGEST_MODEL)
    await call.settings()
    try:
        await import_model(call.service, call.loop, archive, call.actor)
    except BadArchive as error:
        raise invalid("InvalidModelImportFormat", str(error)) from None
    except BadSignature as error:
        raise invalid("InvalidModelImportSignature", str(error)) from None
    except Problem as error:
        if error.status != 409 or isinstance(error, OperationFailed):
            raise
        raise invalid("InvalidModelMetadata", error.detail) from None
    return no_content()


async def delete_model(call: Call) -> Response:
    """``DELETE /model``: back to an untrained one."""
    await call.settings()
    await reset_model(call.service, call.loop, call.actor)
    return no_content()


async def model_properties(call: Call) -> Response:
    """``GET /model/properties``."""
    await call.settings()
    model = await export_model(call.service, call.loop)
    return json_response(
        {"creationTime": format_time(model.created_at), "lastModifiedTime": format_time(model.modified_at)}
    )


async def delete_logs(call: Call) -> Response:
    """``DELETE /logs``: all events so far are gone, also those that still wait for rewards."""
    await call.settings()
    await delete_log(call.service, call.loop, call.actor)
    return no_content()


async def log_properties(call: Call) -> Response:
    """``GET /logs/properties``."""
    await call.settings()
    span = await asyncio.to_thread(call.store.log_span, call.loop)
    if span is None:
        return json_response({})
    return json_response({"dateRange": {"from": format_time(span[0]), "to": format_time(span[1])}})


async def uploaded_log(call: Call) -> Response:
    """``POST /logs/interactions`` and ``/observations``: binary logs of clients that rank locally are not taken."""
    await call.body()
    raise invalid("InvalidRequest", "binary logs are not taken: rank and reward through this service")
