"""When a simulated shop hears of what a customer did: seconds for a click, minutes to months for a redemption.

Days to a redemption by mail have the published quantiles (targets.py). How long the web takes is assumed: most
purchases follow within the session, the others as late as those by mail.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.targets import CAMPAIGN_TYPES, CAMPAIGNS, DELAY_LEVELS

DAY_SECONDS = 86400.0
MEDIAN_CLICK_SECONDS = 40.0
CLICK_SPREAD = 1.6
SESSION_SHARE = 0.75
MEDIAN_SESSION_SECONDS = 900.0
SESSION_SPREAD = 1.2
MEDIAN_RETURN_DAYS = 9.0
RETURN_SPREAD = 0.7
# A shop reports most outcomes at once, some only when a queue or a nightly file gets through.
SLOW_SHARE = 0.08
MEDIAN_SLOW_SECONDS = 8 * 3600.0
SLOW_SPREAD = 1.4
# Where the published quantiles end, the curve goes on to these.
SHORTEST_DAYS = 0.01
LONGEST_TIMES = 1.6

_LEVELS = np.array([0.0, *DELAY_LEVELS, 1.0])
_LOG_DAYS = np.log(
    [[SHORTEST_DAYS, *CAMPAIGNS[kind].delay_days, LONGEST_TIMES * CAMPAIGNS[kind].delay_days[-1]]
     for kind in CAMPAIGN_TYPES]
)  # fmt: skip


def mail_delays(campaign: NDArray[np.int64], luck: NDArray[np.float64]) -> NDArray[np.float64]:
    """Days from a campaign's start to a redemption, shape (rows,): the inverse of the published distribution.

    Args:
        campaign: Index into CAMPAIGN_TYPES, shape (rows,).
        luck: Uniform numbers in [0, 1), shape (rows,). Between quantiles the logarithm is interpolated.
    """
    days = np.stack([np.exp(np.interp(luck, _LEVELS, row)) for row in _LOG_DAYS])
    return np.asarray(days[campaign, np.arange(luck.size)])


def click_delays(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds from a decision to a click, log-normal; ``normal`` are standard normal numbers, shape (rows,)."""
    return np.asarray(MEDIAN_CLICK_SECONDS * np.exp(CLICK_SPREAD * normal))


def purchase_delays(
    campaign: NDArray[np.int64], luck: NDArray[np.float64], normal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Seconds from a decision to a purchase, shape (rows,): within the session, or days to weeks later.

    Args:
        campaign: Index into CAMPAIGN_TYPES, shape (rows,).
        luck: Uniform numbers in [0, 1); below SESSION_SHARE the purchase falls into the session.
        normal: Standard normal numbers, shape (rows,).
    """
    within = MEDIAN_SESSION_SECONDS * np.exp(SESSION_SPREAD * normal)
    rest = np.clip((luck - SESSION_SHARE) / (1.0 - SESSION_SHARE), 0.0, 1.0)
    return np.asarray(np.where(luck < SESSION_SHARE, within, DAY_SECONDS * mail_delays(campaign, rest)))


def return_delays(normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds from a purchase to its return, log-normal; ``normal`` are standard normal numbers, shape (rows,)."""
    return np.asarray(DAY_SECONDS * MEDIAN_RETURN_DAYS * np.exp(RETURN_SPREAD * normal))


def reporting_delays(luck: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds from an outcome to its report, shape (rows,): none, or hours to days (log-normal).

    Args:
        luck: Uniform numbers in [0, 1); below SLOW_SHARE the report is slow.
        normal: Standard normal numbers, shape (rows,).
    """
    return np.asarray(np.where(luck < SLOW_SHARE, MEDIAN_SLOW_SECONDS * np.exp(SLOW_SPREAD * normal), 0.0))
