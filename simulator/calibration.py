"""Fitted log-odds of a redemption by mail; ``python -m simulator.fitting`` prints them anew from the published rates.

Every redemption rate of targets.py is met within a factor 1.35 (tests/statistics/test_market_calibration.py). The
numbers below are fitted, not published: they mean what they mean only inside this market.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from simulator.assumed import WEB_LIFT, WEB_SHARE
from simulator.shoppers import Floats, Indices, Population
from simulator.targets import CAMPAIGN_TYPES, INCOMES, KIDS, PER_OFFER, SPEND_QUARTILES


@dataclass(frozen=True, slots=True)
class CampaignEffects:
    """Log-odds of one type of campaign: at all, by segment, and the spread of its occasions.

    An occasion is one household in one campaign: who takes one coupon along to the shop takes others too. Its effect is
    normal with standard deviation ``occasion``, and plays no part in the shop's own pages.
    """

    intercept: float
    occasion: float
    by_spend: tuple[float, ...]
    by_income: tuple[float, ...]
    by_kids: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RedemptionEffects:
    """All fitted effects: by campaign type, by habit (nothing bought, the category, the very product).

    ``proneness`` are log-odds per standard deviation of a household's lasting proneness to coupons.
    """

    campaigns: Mapping[str, CampaignEffects]
    habits: tuple[float, float, float]
    proneness: float

    def by_mail(self, population: Population, campaigns: Indices, habits: Indices) -> Floats:
        """Log-odds of redeeming by mail that do not change with the moment, shape (customers, offers).

        Args:
            population: The customers.
            campaigns: Index into CAMPAIGN_TYPES of each offer, shape (offers,).
            habits: As ``Population.habits`` gives them, shape (customers, offers).
        """
        intercepts = np.array([self.campaigns[kind].intercept for kind in CAMPAIGN_TYPES])
        return np.asarray(intercepts[campaigns] + self._differences(population, campaigns, habits))

    def on_the_web(self, population: Population, campaigns: Indices, habits: Indices) -> Floats:
        """The same of a banner in the shop, shape (customers, offers): assumed.

        Its rate is the published rate per coupon of the type of campaign, lifted by WEB_LIFT; of what tells households
        apart by mail the share WEB_SHARE is left, as a click asks for less than scissors.
        """
        published = np.array([PER_OFFER[kind] for kind in CAMPAIGN_TYPES])
        usual = np.log(published / (1.0 - published)) + WEB_LIFT
        return np.asarray(usual[campaigns] + WEB_SHARE * self._differences(population, campaigns, habits))

    def _differences(self, population: Population, campaigns: Indices, habits: Indices) -> Floats:
        by_type = np.stack([self._by_segment(population, self.campaigns[kind]) for kind in CAMPAIGN_TYPES], axis=1)
        lasting = (self.proneness * population.proneness)[:, np.newaxis]
        return np.asarray(by_type[:, campaigns] + lasting + np.array(self.habits)[habits])

    @staticmethod
    def _by_segment(population: Population, effects: CampaignEffects) -> Floats:
        return np.asarray(
            np.array(effects.by_spend)[population.spending]
            + np.array(effects.by_income)[population.income]
            + np.array(effects.by_kids)[population.kids]
        )


def no_effects() -> RedemptionEffects:
    """Where fitting starts."""
    none = CampaignEffects(
        -6.0, 1.0, (0.0,) * len(SPEND_QUARTILES), (0.0,) * len(INCOMES), (0.0,) * len(KIDS)
    )  # fmt: skip
    return RedemptionEffects(dict.fromkeys(CAMPAIGN_TYPES, none), (0.0, 0.0, 0.0), 1.0)


FITTED = RedemptionEffects(
    campaigns={
        "A": CampaignEffects(
            intercept=-11.400, occasion=2.922, by_spend=(-3.000, -0.052, 0.618, 3.000),
            by_income=(-1.116, 0.959, 0.515, -0.359), by_kids=(-0.188, -0.707, 1.008, 1.141, -1.254),
        ),
        "B": CampaignEffects(
            intercept=-12.683, occasion=2.900, by_spend=(-0.313, -0.503, -0.071, 0.887),
            by_income=(-0.345, -0.018, 0.599, -0.237), by_kids=(0.235, -0.375, 1.058, -0.572, -0.347),
        ),
        "C": CampaignEffects(
            intercept=-12.188, occasion=1.731, by_spend=(-0.067, -0.216, -0.357, 0.639),
            by_income=(-1.483, 0.394, -1.258, 2.347), by_kids=(1.512, -0.279, 1.190, -0.141, -2.282),
        ),
    },
    habits=(0.000, 0.917, 3.787),
    proneness=2.475,
)  # fmt: skip
