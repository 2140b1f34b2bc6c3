"""A model file of Vowpal Wabbit and its arguments as a warm start of a loop; the arguments alone as its setting."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from adapters.catalogue import LoopStore
from adapters.installation import Installation
from adapters.loop_changes import change_loop, tell_learner
from adapters.operations import Operation, OperationStore
from contextual_bandit.learning_arguments import JSON_NAMES, BadArguments, draws_slates, reads_json, words_of
from contextual_bandit.loops import LoopConfig
from contextual_bandit.served_arguments import UNSERVED, ServedPolicy, served_policy
from contextual_bandit.types import Decision, LearningSetting
from contextual_bandit.vowpal import VowpalPolicy
from contextual_bandit.vowpal_weights import knows
from evaluation.json_log import object_of
from evaluation.log_rows import read_lines
from evaluation.row_faults import BadRow
from learner.dsjson_decisions import imported_from

ACTOR = "offerloop import"
# So many decisions are shown to a model before it is taken.
MOST_SHOWN = 200
# Of these it must know such a share: features of other names meet a weight by chance, but seldom.
LEAST_KNOWN = 0.5
# How long a model may wait for a learner to begin, and to end.
BEGIN_SECONDS = 5.0
END_SECONDS = 60.0
LOOK_SECONDS = 0.05


class UnusableModel(ValueError):
    """A model or a policy file that cannot be taken; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class WarmStart:
    """What a loop shall go on from: a learning setting, and a model that it trained if there is one.

    ``floor`` is the exploration that the arguments gave, which becomes the loop's; None leaves that as it is.
    """

    setting: LearningSetting
    model: bytes | None
    name: str
    floor: float | None = None


def read_warm_start(config: LoopConfig, policy: Path, model: Path | None, shown: Iterable[Decision]) -> WarmStart:
    """Read and try the files.

    Exploration becomes the loop's floor, as on the Personalizer routes. A model that knows the features by the names
    that Vowpal Wabbit's JSON reader gives them, as Personalizer's own do, has the loop use those from then on.

    Args:
        config: the loop that shall take them.
        policy: Personalizer's policy file (JSON with ``arguments``), or the arguments alone.
        model: Vowpal Wabbit's model file.
        shown: decisions of the log that comes with it, of whose features the model must know some.

    Raises:
        UnusableModel: the arguments are not allowed, Vowpal Wabbit refuses the model, or it knows the features by
            neither kind of names.
        OSError: a file cannot be read.
    """
    try:
        served = _served(_arguments(policy.read_text()))
    except (BadArguments, UnicodeDecodeError) as error:
        raise UnusableModel(f"{policy}: {error}") from None
    setting = replace(config.setting, arguments=served.arguments)
    if model is None:
        return WarmStart(setting, None, policy.name, served.epsilon)
    data, decisions, found = model.read_bytes(), list(shown), []
    for arguments in _namings(served.arguments):
        named = replace(setting, arguments=arguments)
        known = _known(named, data, model, decisions)
        if decisions and known >= LEAST_KNOWN * len(decisions):
            return WarmStart(named, data, model.name, served.epsilon)
        found.append(str(known))
    raise UnusableModel(
        f"{model}: knows the shown offer of {' and '.join(found)} among {len(decisions)} decisions by the names that "
        "they have here and by those of JSON lines, so it was trained on others; import the log without it, which "
        "teaches the loop as much"
    )


def first_decisions(paths: Iterable[Path], loop: str) -> Iterator[Decision]:
    """The first decisions of files, as an import makes them."""

    def usable() -> Iterator[Decision]:
        for path in paths:
            for _, line in read_lines(path):
                try:
                    yield imported_from(object_of(line), loop, datetime.now(UTC)).decision
                except BadRow:
                    continue

    return islice(usable(), MOST_SHOWN)


def begin_warm(installation: Installation, config: LoopConfig, start: WarmStart) -> str:
    """Have the loop go on from it; returns what was done, in words.

    Raises:
        UnusableModel: no learner took the model, or it failed; then nothing has changed.
    """
    now = datetime.now(UTC)
    if start.model is None:
        floor = config.exploration_floor if start.floor is None else start.floor
        wanted = replace(config, arguments=start.setting.arguments, exploration_floor=floor)
        changed = change_loop(installation.engine, installation.client, config, wanted, ACTOR, now)
        return (
            "the policy was the loop's already" if changed.operation_id is None else "the log is learned by the policy"
        )
    store = OperationStore(installation.engine)
    detail = {"arguments": start.setting.arguments, "from": start.name}
    operation_id = store.add(config.loop, "import", ACTOR, now, detail=detail, model=start.model)
    tell_learner(installation.client, config.loop, "import_model", ACTOR, {"operation_id": operation_id})
    ended = _ended(store, operation_id)
    if ended is None or ended.state != "done":
        why = "no learner took it in time" if ended is None else ended.error or ended.state
        raise UnusableModel(f"{start.name}: {why}; the loop's model stays")
    stored = LoopStore(installation.engine, installation.client).get(config.loop)
    if stored is not None and start.floor is not None and stored.exploration_floor != start.floor:
        wanted = replace(stored, exploration_floor=start.floor)
        change_loop(installation.engine, installation.client, stored, wanted, ACTOR, now)
    return f"the loop goes on from the model, as snapshot {ended.detail['snapshot_id']}"


def _ended(store: OperationStore, operation_id: str) -> Operation | None:
    """An operation when it has ended; taken back, and None, when no learner begins it."""
    began = time.monotonic()
    while True:
        operation = store.get(operation_id)
        if operation is None or not operation.is_open:
            return operation
        waited = time.monotonic() - began
        if (waited > BEGIN_SECONDS and store.withdraw(operation_id, datetime.now(UTC))) or waited > END_SECONDS:
            return None
        time.sleep(LOOK_SECONDS)


def _arguments(text: str) -> str:
    try:
        found = json.loads(text)
    except ValueError:
        return text
    if isinstance(found, dict) and isinstance(found.get("arguments"), str):
        return str(found["arguments"])
    raise BadArguments(f"no text under 'arguments', got {text[:60]!r}")


def _served(arguments: str) -> ServedPolicy:
    """What serves a policy; one that could not be replayed is refused, since its model has it built in."""
    words = words_of(arguments)
    for name in UNSERVED:
        if name in words:
            raise BadArguments(f"argument {name!r} is not allowed in a learning setting")
    if "dr" in words:
        raise BadArguments("--cb_type dr cannot be replayed to the byte; use mtr, ips or dm")
    return served_policy(arguments)


def _namings(arguments: str) -> list[str]:
    """The setting, and what else it could be: with names as JSON lines give them."""
    alone = draws_slates(arguments) or reads_json(arguments)
    return [arguments] if alone else [arguments, f"{arguments} {JSON_NAMES}"]


def _known(setting: LearningSetting, data: bytes, model: Path, decisions: Sequence[Decision]) -> int:
    """How many of the decisions' shown offers a model knows.

    Raises:
        UnusableModel: Vowpal Wabbit refuses it.
    """
    try:
        loaded = VowpalPolicy(setting, data)
    except RuntimeError as error:
        raise UnusableModel(f"{model}: {error}") from None
    with closing(loaded):
        return sum(knows(loaded, one.context, one.actions, one.slots[0].chosen) for one in decisions)
