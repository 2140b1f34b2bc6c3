"""The tables of a report."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from contextual_bandit.types import Estimate
from evaluation import charts, page
from evaluation.estimators import ESTIMATORS
from evaluation.evaluate import Evaluation, PolicyEvaluation
from evaluation.slices import NOT_ENOUGH, SlicedValues
from evaluation.verdict_words import VERDICT_NAMES

CONFIDENCE = (
    "Mean reward per decision. The verdict rests on the paired doubly robust difference from the policy compared with, "
    "its interval widened for the number of policies. Faint intervals promise nothing: too few rewarded decisions "
    "carry weight, or the estimator is biased by what its model or its bound on the weights leaves out. The normal and "
    "the bootstrap interval stand there for comparison."
)


def tables(evaluation: Evaluation) -> Iterator[str]:
    """All tables that the evaluation has numbers for."""
    yield _estimates(evaluation)
    yield _differences(evaluation)
    if evaluation.reconciliation is not None:
        yield _holdout(evaluation)
    yield from _slots(evaluation)
    yield from _calibration(evaluation)
    yield from _slices(evaluation, evaluation.slices)
    yield from _features(evaluation)


def _estimates(evaluation: Evaluation) -> str:
    rows = []
    for policy in _in_order(evaluation):
        for index, key in enumerate(policy.estimates):
            one, normal, drawn = policy.estimates[key], policy.normal[key], policy.bootstrap[key]
            cells = (
                f"<td>{escape(ESTIMATORS[key].title)}</td>{page.number_cell(one.value)}{_believed(one)}{page.range_cell(normal)}"
                f"{page.range_cell(drawn)}{page.count_cell(one.effective_sample_size)}"
            )
            head = _head(evaluation, policy) if index == 0 else ""
            rows.append(f"<tr{' class=group' if index == 0 else ''}>{head}{cells}</tr>")
    level = f"{evaluation.level:.0%}"
    columns = ("policy", "estimator", "value", f"{level} interval", "normal", "bootstrap", "effective sample")
    return page.table("Estimates", CONFIDENCE, columns, rows, words=2)


def _head(evaluation: Evaluation, policy: PolicyEvaluation) -> str:
    verdict = policy.gate.verdict
    label = "compared with" if policy.name == evaluation.against else VERDICT_NAMES[verdict]
    reasons = escape("; ".join((*policy.gate.reasons, *policy.gate.warnings)))
    name, rows = escape(policy.name), len(policy.estimates)
    return (
        f'<th scope="rowgroup" rowspan="{rows}">{name}<br><span class="tag {verdict}">{label}</span><br>'
        f'<span class="why">{reasons}</span></th>'
    )


def _believed(one: Estimate, sign: str = "") -> str:
    cell = page.range_cell(one, sign)
    return cell if one.reliable else cell.replace('class="number"', 'class="number faint"')


def _differences(evaluation: Evaluation) -> str:
    rows = []
    for policy in _in_order(evaluation):
        one = policy.weights
        rows.append(
            f'<tr><th scope="row">{escape(policy.name)}</th>{page.number_cell(policy.difference.value, "+")}'
            f"{_believed(policy.difference, '+')}{page.count_cell(one.effective_sample_size)}"
            f"{page.count_cell(one.effective_rewards)}{page.number_cell(one.mean)}{page.score_cell(one.mean_z)}"
            f"{page.number_cell(one.largest)}{page.number_cell(one.largest_possible)}"
            f"{page.percent_cell(one.tail_share)}{page.percent_cell(one.unsupported_share)}"
            f"{page.percent_cell(one.unsupported_mass)}</tr>"
        )
    columns = (
        "policy", "difference", "interval", "effective sample", "effective rewards", "mean weight", "its z",
        "largest weight", "largest possible", "held by heaviest 1%", "unsupported decisions", "unsupported mass",
    )  # fmt: skip
    caption = (
        "The mean weight must be 1 (|z| up to 3.3). Unsupported: the policy wants offers that could not be served."
    )
    return page.table("Difference and weights", caption, columns, rows)


def _holdout(evaluation: Evaluation) -> str:
    found = evaluation.reconciliation
    assert found is not None  # held by ``tables``
    rows = [
        f'<tr><th scope="row">{name}</th>{page.number_cell(one.value, "+")}{page.range_cell(one, "+")}</tr>'
        for name, one in (
            ("observed uplift", found.observed),
            ("estimated uplift", found.estimated),
            ("estimated minus observed", found.gap),
        )
        if one is not None
    ]
    caption = (
        f"Against the holdout: {found.words}. {found.ratio.held_out:,} of {found.ratio.customers:,} customers are held "
        f"out; {found.held_out:,} decisions of theirs, {found.learned:,} of the others."
    )
    return page.table(
        "Reconciliation with the holdout", caption, ("reward per decision", "value", "interval by customer"), rows
    )


def _calibration(evaluation: Evaluation) -> Iterator[str]:
    findings = evaluation.findings
    if findings.calibration:
        rows = [
            f'<tr><th scope="row">{one.low:g} to {one.high:g}</th>{page.count_cell(one.actions)}'
            f"{page.count_cell(one.expected)}{page.count_cell(one.observed)}"
            f"{'<td class=number>too few</td>' if one.z is None else page.score_cell(one.z)}</tr>"
            for one in findings.calibration
        ]
        caption = "How often offers were served against the probability that was logged for them."
        columns = ("logged probability", "offers", "expected served", "served", "z")
        yield page.table("Propensity calibration", caption, columns, rows)
    if findings.offers:
        rows = [
            f'<tr><th scope="row">{escape(one.name)}</th>{page.count_cell(one.eligible)}{page.count_cell(one.observed)}'
            f"{page.number_cell(one.ratio)}<td>{escape(one.finding)}</td></tr>"
            for one in findings.offers[:20]
        ]
        caption = "The mean of 1/propensity where the offer was served, over where it was eligible: 1 when right."
        yield page.table("Propensities by offer", caption, ("offer", "eligible", "served", "ratio", "finding"), rows)


def _slots(evaluation: Evaluation) -> Iterator[str]:
    rows = [
        f'<tr><th scope="row">{escape(policy.name)}</th><td>{escape(ESTIMATORS[key].title)}</td>'
        f"{page.number_cell(one.value)}{_believed(one)}{page.count_cell(one.effective_sample_size)}</tr>"
        for policy in _in_order(evaluation)
        for key, one in policy.slates.items()
    ]
    if rows:
        caption = "Reward of all slots of a decision together; a slate's weight is the product of its slots' weights."
        columns = ("policy", "estimator", "value", "interval", "effective sample")
        yield page.table("Whole slates", caption, columns, rows, words=2)
    yield from _slices(evaluation, evaluation.slots)


def _slices(evaluation: Evaluation, sliced: SlicedValues | None) -> Iterator[str]:
    headline = evaluation.headline
    if sliced is None or headline is None:
        return
    nothing = f'<td class="number">{NOT_ENOUGH}</td><td></td>'
    for dimension, found in sliced.dimensions.items():
        rows = []
        for one in found:
            value, difference = one.values.get(headline), one.differences.get(headline)
            cells = "".join(
                nothing if each is None else f"{page.number_cell(each.value, sign)}{_believed(each, sign)}"
                for each, sign in ((value, ""), (difference, "+"))
            )
            share = page.percent_cell(one.share)
            rows.append(f'<tr><th scope="row">{escape(one.name)}</th>{page.count_cell(one.n)}{share}{cells}</tr>')
        columns = ("slice", "decisions", "share", "value", "interval", "difference", "interval")
        yield page.table(f"{headline} by {dimension}", sliced.caption, columns, rows)


def _features(evaluation: Evaluation) -> Iterator[str]:
    found = evaluation.features
    if found is None:
        return
    rows = [
        f'<tr><th scope="row">{escape(one.name)}</th>{page.number_cell(one.lost.value, "+")}'
        f"{_believed(one.lost, '+')}<td>{'costs' if one.shown else 'gains' if one.harmful else 'not shown'}</td></tr>"
        for one in found.worth
    ]
    caption = (
        f"Reward per decision that {found.arguments!r} loses when it learns without a namespace or feature; intervals "
        f"hold together at {found.level:.0%} (Bonferroni)."
    )
    yield page.table("What features are worth", caption, ("left out", "lost", "interval", "leaving it out"), rows)


def _in_order(evaluation: Evaluation) -> list[PolicyEvaluation]:
    return [evaluation.policy(name) for name in charts.shown_policies(evaluation, len(evaluation.policies))]
