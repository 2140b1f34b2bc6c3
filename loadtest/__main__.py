"""``python -m loadtest``: an installation of its own under load, judged by its errors and the p99 of rank.

Everything runs on loopback, in a temporary data folder under the output folder, and is stopped at the end. Exit
status 1 = a call failed or the objective was missed; 2 = the load test itself could not run.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from adapters.running import DidNotStart, running_installation
from loadtest.objective import NothingAnswered, Objective, Verdict, judge
from loadtest.visits import CATEGORIES, HEADERS

OFFERS = 40


class CannotRun(RuntimeError):
    """The installation or Locust did not start."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Start, seed, load, judge, stop."""
    chosen = _parsed(arguments)
    out: Path = chosen.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    (out / "loadtest.json").unlink(missing_ok=True)
    try:
        with _installation(chosen, out) as url:
            status = run_locust(url, out, chosen)
        verdict = judge(out / "loadtest.json", Objective(chosen.p99_ms, chosen.rate))
    except NothingAnswered as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 1
    except (CannotRun, DidNotStart, httpx.HTTPError) as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 2
    _print(verdict, chosen.p99_ms, out)
    return 0 if status == 0 and verdict.is_met else 1


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument(
        "--rate", type=float, help="rank calls per second by the clock, instead of users who wait for answers"
    )
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the decision service")
    parser.add_argument("--p99-ms", type=float, default=250.0, help="objective: 99th percentile of rank")
    parser.add_argument("--url", help="load this service, whose catalogue holds offers, instead of one of its own")
    parser.add_argument("--processes", type=int, default=1, help="processes of Locust on this machine")
    parser.add_argument("--out", type=Path, default=Path("var/loadtest"))
    chosen = parser.parse_args(arguments)
    for name, least in (("seconds", 1), ("users", 1), ("workers", 1), ("processes", 1)):
        if getattr(chosen, name) < least:
            parser.error(f"--{name} must be at least {least}, got {getattr(chosen, name)}")
    for name in ("rate", "p99_ms"):
        value = getattr(chosen, name)
        if value is not None and not value > 0.0:
            parser.error(f"--{name.replace('_', '-')} must be more than 0, got {value:g}")
    return chosen


@contextmanager
def _installation(chosen: argparse.Namespace, out: Path) -> Iterator[str]:
    """Give the address to load: the one that was named, or an installation with offers, stopped afterwards."""
    if chosen.url is not None:
        yield chosen.url.rstrip("/")
        return
    environment = {"OFFERLOOP_WORKERS": str(chosen.workers)}
    with (
        tempfile.TemporaryDirectory(prefix="installation-", dir=out) as data,
        running_installation(Path(data), environment, log_path=out / "service.log") as url,
    ):
        seed(url)
        yield url


def seed(url: str) -> None:
    """Put 40 active offers in 8 categories, and wait until the service ranks them."""
    with httpx.Client(base_url=url, timeout=30.0, headers=HEADERS) as client:
        for number in range(OFFERS):
            features = {"discount": 0.05 * (number % 6), "price_band": ("low", "middle", "high")[number % 3]}
            body = {"category": CATEGORIES[number % len(CATEGORIES)], "features": features}
            client.put(f"/v1/offers/load-{number}", json=body).raise_for_status()
        deadline = time.monotonic() + 10.0
        while len(client.post("/v1/rank", json={}).raise_for_status().json()["ranking"]) < OFFERS:
            if time.monotonic() > deadline:
                raise CannotRun(f"the {OFFERS} offers are not all ranked after 10 s")
            time.sleep(0.1)


def run_locust(url: str, out: Path, chosen: argparse.Namespace) -> int:
    """Locust without its web page, for a bounded time; its exit status (1 = a call failed).

    Raises:
        CannotRun: it did not end in time.
    """
    by_clock = chosen.rate is not None
    file = "constant_rate.py" if by_clock else "locustfile.py"
    command = [
        sys.executable, "-m", "locust", "--headless", "--locustfile", str(Path(__file__).with_name(file)),
        "--host", url, "--users", str(chosen.users),
        "--spawn-rate", str(chosen.users if by_clock else max(chosen.users / 5, 1)),
        "--run-time", f"{chosen.seconds}s", "--stop-timeout", "10", "--csv", str(out / "loadtest"),
        "--html", str(out / "loadtest.html"), "--json-file", str(out / "loadtest"), "--only-summary",
        "--exit-code-on-error", "1",
    ]  # fmt: skip
    if by_clock:
        command += ["--user-rate", str(chosen.rate / chosen.users), "--reset-stats"]
    if chosen.processes > 1:
        command += ["--processes", str(chosen.processes)]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait(chosen.seconds + 60.0)
    except subprocess.TimeoutExpired:
        raise CannotRun(f"Locust did not end within {chosen.seconds + 60} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _print(verdict: Verdict, objective_ms: float, out: Path) -> None:
    print(
        f"{verdict.requests} requests, {verdict.failures} failed; {verdict.ranks} rank calls, "
        f"{verdict.ranks_per_second:.1f} per second: p50 {verdict.p50_ms:g} ms, p99 {verdict.p99_ms:g} ms "
        f"(objective {objective_ms:g} ms)"
    )
    print(f"written: {out / 'loadtest.html'} {out / 'loadtest.json'} {out / 'loadtest_stats.csv'}")
    for fault in verdict.faults:
        print(f"missed: {fault}")
    print("passed" if verdict.is_met else "FAILED")


if __name__ == "__main__":
    sys.exit(main())
