"""``python -m loadtest``: an installation of its own under load, judged by its errors and the p99 of rank.

Everything runs on loopback, in a temporary data folder under the output folder, and is stopped at the end. Exit
status 1 = a request failed or the objective was missed; 2 = the load test itself could not run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from adapters.running import DidNotStart, running_installation

OFFERS = 40
CATEGORIES = ("soup", "ice_cream", "rainwear", "garden", "coffee", "pet_food", "toys", "books")


class CannotRun(RuntimeError):
    """The installation or Locust did not start."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Start, seed, load, judge, stop."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the decision service")
    parser.add_argument("--p99-ms", type=float, default=250.0, help="objective: 99th percentile of rank")
    parser.add_argument("--out", type=Path, default=Path("var/loadtest"))
    chosen = parser.parse_args(arguments)
    out: Path = chosen.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    (out / "loadtest.json").unlink(missing_ok=True)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="installation-", dir=out) as data,
            running_installation(
                Path(data), {"OFFERLOOP_WORKERS": str(chosen.workers)}, log_path=out / "service.log"
            ) as url,
        ):
            seed(url)
            status = run_locust(url, out, chosen.users, chosen.seconds)
    except (CannotRun, DidNotStart, httpx.HTTPError) as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 2
    return judge(out, status, chosen.p99_ms)


def seed(url: str) -> None:
    """Put 40 active offers in 8 categories, and wait until the service ranks them."""
    with httpx.Client(base_url=url, timeout=30.0) as client:
        for number in range(OFFERS):
            features = {"discount": 0.05 * (number % 6), "price_band": ("low", "middle", "high")[number % 3]}
            body = {"category": CATEGORIES[number % len(CATEGORIES)], "features": features}
            client.put(f"/v1/offers/load-{number}", json=body).raise_for_status()
        deadline = time.monotonic() + 10.0
        while len(client.post("/v1/rank", json={}).raise_for_status().json()["ranking"]) < OFFERS:
            if time.monotonic() > deadline:
                raise CannotRun(f"the {OFFERS} offers are not all ranked after 10 s")
            time.sleep(0.1)


def run_locust(url: str, out: Path, users: int, seconds: int) -> int:
    """Locust without its web page, for a bounded time; its exit status (1 = a request failed).

    Raises:
        CannotRun: it did not end in time.
    """
    command = [
        sys.executable, "-m", "locust", "--headless", "--locustfile", str(Path(__file__).with_name("locustfile.py")),
        "--host", url, "--users", str(users), "--spawn-rate", str(max(users / 5, 1)), "--run-time", f"{seconds}s",
        "--stop-timeout", "10", "--csv", str(out / "loadtest"), "--html", str(out / "loadtest.html"),
        "--json-file", str(out / "loadtest"), "--only-summary", "--exit-code-on-error", "1",
    ]  # fmt: skip
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait(seconds + 60.0)
    except subprocess.TimeoutExpired:
        raise CannotRun(f"Locust did not end within {seconds + 60} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def judge(out: Path, status: int, objective_ms: float) -> int:
    """Print the verdict from what Locust wrote at its end; 0 when no request failed and rank met its objective.

    (Its CSV files may miss the last second.)
    """
    path = out / "loadtest.json"
    kinds: dict[str, dict[str, Any]] = {kind["name"]: kind for kind in json.loads(path.read_text())}
    requests = sum(kind["num_requests"] for kind in kinds.values())
    failures = sum(kind["num_failures"] for kind in kinds.values())
    if "rank" not in kinds:
        print("loadtest: no rank call was answered", file=sys.stderr)
        return 1
    times = {float(time_ms): int(count) for time_ms, count in kinds["rank"]["response_times"].items()}
    p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
    print(
        f"{requests} requests, {failures} failed; {kinds['rank']['num_requests']} rank calls: "
        f"p50 {p50:g} ms, p99 {p99:g} ms (objective {objective_ms:g} ms)"
    )
    print(f"written: {out / 'loadtest.html'} {path} {out / 'loadtest_stats.csv'}")
    good = status == 0 and failures == 0 and p99 <= objective_ms
    print("passed" if good else "FAILED")
    return 0 if good else 1


def percentile(counts: Mapping[float, int], share: float) -> float:
    """The smallest value that at least this share of the counted values does not exceed."""
    wanted = share * sum(counts.values())
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return value
    raise ValueError("no values were counted")


if __name__ == "__main__":
    sys.exit(main())
