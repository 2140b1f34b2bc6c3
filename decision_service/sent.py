"""The contexts that requests send, checked and derived; the latest are kept, since few differ from call to call."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from contextual_bandit.context import derive
from contextual_bandit.features import BadFeature, rebuild_context
from contextual_bandit.loops import FeatureSchema
from contextual_bandit.schema import apply_schema
from contextual_bandit.types import Features

# Some kilobytes each.
MOST_KEPT = 2_000
LARGEST_KEPT = 512


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """A request's namespaces as a policy sees them, and the paths of what the loop's schema dropped.

    Contexts of equal text are one object.
    """

    namespaces: Mapping[str, Features]
    dropped: tuple[str, ...]


class SentContexts:
    """Reads contexts of requests."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[bytes, int], tuple[FeatureSchema | None, Sent]] = OrderedDict()

    def read(self, schema: FeatureSchema | None, raw: Mapping[str, Any], field: str) -> Sent:
        """What a context says; ``field`` is where the request stands in a larger one, for errors.

        Raises:
            BadFeature: a feature cannot be used.
        """
        try:
            text = orjson.dumps(raw)
        except orjson.JSONEncodeError:
            # Nested deeper than JSON is written here, let alone than features may be.
            return _read(schema, raw, field)
        if len(text) > LARGEST_KEPT:
            return _read(schema, raw, field)
        # A schema's number is its own only as long as it lives, so that it is kept too.
        key = text, id(schema)
        kept = self._kept.get(key)
        if kept is not None and kept[0] is schema:
            return kept[1]
        sent = _read(schema, raw, field)
        self._kept[key] = schema, sent
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return sent


def _read(schema: FeatureSchema | None, raw: Mapping[str, Any], field: str) -> Sent:
    try:
        kept, dropped = apply_schema(schema, rebuild_context(raw))
        return Sent(derive(kept), tuple(dropped))
    except BadFeature as error:
        raise error.below(field) from None
