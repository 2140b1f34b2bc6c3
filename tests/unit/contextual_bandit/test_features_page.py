"""docs/FEATURES.md beside the code: what it says of every feature is what the context builder gives."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from contextual_bandit.actions import offer_features
from contextual_bandit.context import Known, bought_lately, build_context, derive
from contextual_bandit.history import Affinities
from contextual_bandit.loops import LoopConfig
from contextual_bandit.profile import Activity, Profile
from contextual_bandit.season import Region
from contextual_bandit.similarity import Similarity
from contextual_bandit.types import CustomerRecord, Features, FeatureValue, Offer, OfferType
from contextual_bandit.weather import CONDITIONS, Observation

PAGE = Path(__file__).resolve().parents[3] / "docs" / "FEATURES.md"
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
LOOP = LoopConfig("homepage")
CATEGORIES = ("garden", "tea", "soup", "tools")
NEIGHBOURS = Similarity({name: {other: 0.5 for other in CATEGORIES if other != name} for name in CATEGORIES})
# Namespaces in which a shop's own names stand beside those of the page.
OPEN = frozenset("DOP")


@dataclass(frozen=True)
class Row:
    """One feature as the page has it."""

    values: str
    unit: str
    missing: str


@cache
def page() -> dict[str, dict[str, Row]]:
    found: dict[str, dict[str, Row]] = {}
    for name, text in re.findall(
        r"^## [^(\n]+\(([A-Z])\)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE
    ):
        rows = found[name] = {}
        for line in text.splitlines():
            if line.startswith("| `"):
                features, values, unit, missing = (cell.strip() for cell in line.strip().strip("|").split("|"))
                for feature in re.findall(r"`(\w+)`", features):
                    rows[feature] = Row(values, unit, missing)
    return found


def words(text: str) -> set[str]:
    """The values that a cell lists, with its ranges written out."""
    found = set(re.findall(r"`([^`]+)`", text))
    for low, high in re.findall(r"`([a-z]\d+)` to `([a-z]\d+)`", text):
        found |= {f"{low[0]}{number}" for number in range(int(low[1:]), int(high[1:]) + 1)}
    return found


def life(seed: int) -> Profile:
    """A customer who did this and that in the past two years, much of it just now."""
    dice, profile = random.Random(seed), Profile()
    for number in range(dice.choice((1, 4, 30, 120))):
        kind = dice.choice(("view", "view", "click", "cart_add", "purchase"))
        age = dice.choice((dice.uniform(0, 0.0006), dice.uniform(0, 0.04), dice.uniform(0, 1), dice.uniform(0, 700)))
        amount = dice.choice((3.0, 15.0, 60.0, 200.0)) if kind == "purchase" else None
        at = NOW - timedelta(days=age)
        profile.apply(Activity(f"a{number}", "c", kind, at, dice.choice(CATEGORIES), amount=amount))  # type: ignore[arg-type]
    return profile


@cache
def produced() -> dict[str, dict[str, set[FeatureValue]]]:
    """Every feature that the code gave over many customers, moments, places and offers, with its values."""
    found: dict[str, dict[str, set[FeatureValue]]] = defaultdict(lambda: defaultdict(set))

    def note(namespace: str, features: Features) -> None:
        for name, value in features.items():
            found[namespace][name].add(value)

    regions = (None, Region("US-WA", "America/Los_Angeles", "US", "WA"), Region("NZ", "Pacific/Auckland", "NZ"))
    for seed in range(400):
        dice = random.Random(seed)
        region = dice.choice(regions)
        weather = Observation(dice.uniform(-10, 38), dice.choice((0.0, 2.0, 30.0)), dice.choice(CONDITIONS))
        profile = life(seed) if seed % 10 else None
        record = CustomerRecord(age=dice.randrange(121)) if seed % 3 else CustomerRecord()
        known = Known(profile, record, region.region if region else None, region, weather, "table")
        moment = NOW if seed % 2 else NOW + timedelta(hours=dice.randrange(24 * 365))
        sent: dict[str, Features] = {"L": {"store_km": dice.uniform(0, 40)}} if seed % 4 else {}
        for namespace, features in build_context(LOOP, moment, known, derive(sent))[0].namespaces.items():
            note(namespace, features)
        if profile is not None:
            affinities, bought = Affinities(profile, lambda _: 0.1, NOW), bought_lately(profile, NOW)
            for category in CATEGORIES:
                also = NEIGHBOURS.affinity(bought, category)
                note("A", {**affinities.of(category), **({"also": also} if also else {})})
    for number, kind in enumerate((None, *get_args(OfferType))):
        offer = Offer("a", "garden", type=kind, discount=number / 8, price=2.0**number, margin=number / 4 - 1)
        note("O", {"id": offer.offer_id, **offer_features(offer)})
    return found


@pytest.mark.parametrize("namespace", "ADHLOSW")
def test_every_feature_is_on_the_page_and_every_one_on_the_page_is_given(namespace: str) -> None:
    given, explained = set(produced()[namespace]), set(page()[namespace])
    assert explained - given == set()
    assert given - explained == set()


@pytest.mark.parametrize(("namespace", "feature"), [(n, f) for n, rows in page().items() for f in rows])
def test_values_are_those_that_the_page_lists(namespace: str, feature: str) -> None:
    row, values = page()[namespace][feature], produced()[namespace][feature]
    assert row.unit or row.values != "number", "a number has a unit and a range"
    for value in values:
        if isinstance(value, str):
            listed = words(row.values)
            if listed and "and up" not in row.values:
                assert value in listed, f"{value!r} is not among {sorted(listed)}"
        else:
            assert row.values in ("number", "1"), row.values
            low, high = bounds(row)
            assert low <= value <= high, f"{value!r} is outside {low:g} to {high:g}"


def bounds(row: Row) -> tuple[float, float]:
    """The range that a row promises."""
    if row.values == "1":
        return 1.0, 1.0
    text = row.unit
    if re.search(r"in \(0, 1\)", text):
        return 1e-9, 1.0 - 1e-9
    if span := re.search(r"(-?[\d.]+) to (?:about )?(-?\d[\d.]*)", text):
        return float(span[1]), float(span[2])
    if least := re.search(r"(-?[\d.]+) or more", text):
        return float(least[1]), float("inf")
    raise AssertionError(f"no range in {text!r}")


@pytest.mark.parametrize("feature", page()["H"])
def test_a_customer_without_history_has_what_the_page_says(feature: str) -> None:
    features = build_context(LOOP, NOW, Known(), {})[0].namespaces["H"]
    missing = page()["H"][feature].missing
    if missing.startswith("absent"):
        assert feature not in features
    else:
        assert features[feature] == words(missing).pop()


def test_without_anything_known_the_other_namespaces_are_absent_as_the_page_says() -> None:
    assert set(build_context(LOOP, NOW, Known(), {})[0].namespaces) == {"H", "S"}
    for namespace in "DLPW":
        assert all("absent" in row.missing or row.missing == "as above" for row in page().get(namespace, {}).values())


def test_an_affinity_without_history_is_the_priors_rate() -> None:
    features = Affinities(None, lambda _: 0.25, NOW).of("garden")
    assert features == {name: pytest.approx(0.25 * 52) for name in ("r4", "r16", "r52")}
    for feature, row in page()["A"].items():
        assert ("absent" in row.missing) == (feature not in features)


def test_a_bare_offer_has_its_category_alone() -> None:
    assert offer_features(Offer("a", "garden")) == {"category": "garden"}
    for feature, row in page()["O"].items():
        assert ("absent" in row.missing) == (feature not in ("id", "category"))
