"""Examples of the wire shapes of policies and kill switches."""

from __future__ import annotations

from typing import Any

_REASON = "its gain is shown on 41,000 decisions"
_ARGUMENTS = "--cb_explore_adf --squarecb --cb_type mtr --gamma_scale 30 -q ::"
_GUARDRAIL: dict[str, Any] = {
    "metric": "outcome:refund", "relative": True, "n": 1804, "value": 0.002, "low": -0.008, "high": 0.012,
    "bound": None, "state": "within",
}  # fmt: skip
_STATE: dict[str, Any] = {
    "generation": 1,
    "trained_through": 41030,
    "n": 41030,
    "value": 0.117,
    "low": 0.109,
    "high": 0.125,
    "champion_value": 0.104,
    "champion_low": 0.101,
    "champion_high": 0.107,
    "gain": 0.013,
    "gain_low": 0.006,
    "gain_high": 0.02,
    "effective_sample_size": 12400.0,
    "served": 1804,
    "served_value": 0.115,
    "served_low": 0.096,
    "served_high": 0.134,
    "served_champion": 17960,
    "served_champion_value": 0.103,
    "served_champion_low": 0.098,
    "served_champion_high": 0.108,
    "guardrails": [_GUARDRAIL],
    "verdict": "better",
    "reasons": [],
    "error": None,
    "updated_at": "2026-11-23T10:41:00Z",
}
_POLICY = {
    "name": "bolder", "arguments": _ARGUMENTS, "share": 0.1, "snapshot_id": "default@bolder-g1-41030",
    "state": _STATE,
}  # fmt: skip
_WATCH = {"generation": 3, "served": 512, "guardrails": [_GUARDRAIL], "updated_at": "2026-11-23T10:41:00Z"}
_CHAMPION = {
    "arguments": "--cb_explore_adf --squarecb --cb_type mtr --gamma_scale 10 -q ::", "policy_id": "vw-8d9f5890a8",
    "snapshot_id": "default-g3-41030", "share": 0.9, "watch": _WATCH,
}  # fmt: skip
_SWITCH = {
    "scope": "offer", "name": "spring-10", "on": True, "reason": "the code does not work", "actor": "shop",
    "changed_at": "2026-11-23T10:41:00Z",
}  # fmt: skip

POLICY_EXAMPLES: dict[str, Any] = {
    "GuardrailIn": {"metric": "outcome:refund", "high": 0.01, "relative": True},
    "ChallengerOut": {"name": "bolder", "arguments": _ARGUMENTS, "share": 0.1},
    "ChallengerIn": {"arguments": _ARGUMENTS, "share": 0.0},
    "ShareIn": {"share": 0.1, "reason": _REASON},
    "ReasonIn": {"reason": _REASON},
    "GuardrailStateOut": _GUARDRAIL,
    "ChallengerStateOut": _STATE,
    "PolicyOut": _POLICY,
    "ChampionWatchOut": _WATCH,
    "ChampionOut": _CHAMPION,
    "PoliciesOut": {
        "loop": "default", "version": 7, "is_killed": False, "champion": _CHAMPION, "challengers": [_POLICY],
    },
    "KillSwitchIn": {"on": True, "reason": "the code does not work"},
    "KillSwitchOut": _SWITCH,
    "KillSwitchesOut": {"kill_switches": [_SWITCH]},
}  # fmt: skip
