"""What simulated customers do about the offer that they are shown: one draw of luck per visit decides all of it.

A single number decides how far a customer goes: who redeems has put the offer into the cart, and who did that has
clicked. Equal generators give equal luck whatever is shown, so that policies can be compared on the same visits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.assumed import BOT_CLICK, CART_LIFT, CATEGORIES, CLICK_LIFT, MARGINS, RETURN_SHARE, USUAL_PRICES
from simulator.delays import click_delays, purchase_delays, return_delays
from simulator.shoppers import Flags, Floats, Indices
from simulator.world import Moments, Objective, Truth, World

_WIDTH = len(CATEGORIES)
_EARNED = np.array([USUAL_PRICES[name] * MARGINS[name] for name in CATEGORIES])


@dataclass(frozen=True, slots=True, eq=False)
class Responses:
    """What came of each visit, shape (rows,), or (rows, categories) of what was bought without the offer.

    ``organic`` are purchases at the usual price; the one that a redemption replaced is not among them. Delays are
    seconds from the decision, of returns seconds from the purchase. ``earned`` is the money that is left after
    discounts, returns and the contact's cost.
    """

    clicked: Flags
    carted: Flags
    redeemed: Flags
    returned: Flags
    organic: Flags
    organic_returned: Flags
    click_seconds: Floats
    purchase_seconds: Floats
    return_seconds: Floats
    earned: Floats

    def reward(self, objective: Objective) -> Floats:
        """What came in, shape (rows,), as ``World.expected_rewards`` expects it."""
        return self.clicked.astype(np.float64) if objective == "clicks" else self.earned


def draw_responses(
    world: World,
    moments: Moments,
    truth: Truth,
    chosen: Indices,
    generator: np.random.Generator,
    *,
    is_seen: bool = True,
) -> Responses:
    """Draw what customers do.

    Args:
        world: The market.
        moments: The visits.
        truth: What is true of them.
        chosen: Index of the offer that each was shown, shape (rows,).
        generator: Where luck comes from; it is asked for the same numbers whatever was chosen.
        is_seen: Whether the offers were seen; otherwise customers only do what they would have done anyway.
    """
    rows = np.arange(chosen.size)
    luck = generator.random((chosen.size, 3 + 2 * _WIDTH))
    normal = generator.standard_normal((chosen.size, 3))
    shelf, category = world.shelf, world.shelf.category[chosen]
    is_bot = world.population.is_bot[moments.customer]
    is_shown = ~shelf.is_none[chosen] & is_seen
    would_buy = luck[:, 3 : 3 + _WIDTH] < truth.organic
    log_odds = np.where(
        would_buy[rows, category], truth.claim_interest[rows, chosen], truth.interest[rows, chosen]
    )  # fmt: skip
    clicked = _below(luck[:, 0], log_odds + CLICK_LIFT) & is_shown & ~is_bot
    carted = _below(luck[:, 0], log_odds + CART_LIFT) & is_shown & ~is_bot
    redeemed = _below(luck[:, 0], log_odds) & is_shown & ~is_bot
    organic = would_buy.copy()
    organic[rows[redeemed], category[redeemed]] = False
    returned = redeemed & (luck[:, 1] < RETURN_SHARE)
    organic_returned = organic & (luck[:, 3 + _WIDTH :] < RETURN_SHARE)
    left = (shelf.price * (shelf.margin - shelf.discount))[chosen]
    return Responses(
        clicked | (is_shown & is_bot & (luck[:, 0] < BOT_CLICK)),
        carted,
        redeemed,
        returned,
        organic,
        organic_returned,
        click_delays(normal[:, 0]),
        purchase_delays(shelf.campaign[chosen], luck[:, 2], normal[:, 1]),
        return_delays(normal[:, 2]),
        (redeemed & ~returned) * left + (organic & ~organic_returned) @ _EARNED - is_shown * shelf.cost[chosen],
    )


def _below(luck: Floats, log_odds: Floats) -> Flags:
    return np.asarray(luck < 1.0 / (1.0 + np.exp(-log_odds)))
