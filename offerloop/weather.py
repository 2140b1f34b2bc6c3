"""``offerloop weather import FILE --region R``: weather of a region from a CSV file, for the features of decisions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.progress import Progress

from adapters.installation import Installation, open_installation
from adapters.regions import RegionStore, is_region_name
from adapters.settings import load_settings
from adapters.weather import BadRows, WeatherTable, read_csv

MOST_SHOWN = 20
_COLUMNS = (
    "Columns: date (2012-01-31), precipitation (mm), temperature or temp_max and temp_min (degrees Celsius), condition "
    "or weather (sun, clear, cloudy, fog, drizzle, rain, snow, thunder); with hour (0 to 23) the rows are hours, "
    "without it days. Days and hours are local time of the region. Rows of a time that is already there replace it."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Import a file; 0 when all of it was stored, 2 when something is wrong and nothing was."""
    chosen = parser().parse_args(arguments)
    with open_installation(load_settings()) as installation:
        try:
            return _import(installation, chosen.file, chosen.region, chosen.time_zone)
        except BadRows as error:
            for entry in error.errors[:MOST_SHOWN]:
                print(f"{chosen.file}: {entry}", file=sys.stderr)
            if len(error.errors) > MOST_SHOWN:
                print(f"and {len(error.errors) - MOST_SHOWN} more", file=sys.stderr)
            print("nothing was imported", file=sys.stderr)
            return 2


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    words = argparse.ArgumentParser(prog="offerloop weather", description=__doc__)
    commands = words.add_subparsers(metavar="COMMAND", required=True)
    importing = commands.add_parser("import", help="store a CSV file, all of it or nothing", description=_COLUMNS)
    importing.add_argument("file", type=Path, metavar="FILE", help="a CSV file with a header")
    importing.add_argument("--region", type=_region, required=True, metavar="R", help="the region it is the weather of")
    importing.add_argument(
        "--time-zone", type=_zone, metavar="ZONE", help="IANA zone of the file (default: the region's own, else UTC)"
    )
    return words


def _import(installation: Installation, file: Path, region: str, zone: ZoneInfo | None) -> int:
    stored = RegionStore(installation.engine, installation.client).get(region)
    if zone is None:
        zone = ZoneInfo(stored.time_zone if stored else "UTC")
        if stored is None:
            print(f"region {region!r} has no record, so its days are taken to begin at midnight UTC", file=sys.stderr)
    try:
        rows = read_csv(file, zone)
    except OSError as error:
        print(f"{file}: {error.strerror}; nothing was imported", file=sys.stderr)
        return 2
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("importing", total=len(rows))
        table = WeatherTable(installation.engine)
        count = table.put_all(
            region, rows, "offerloop weather", datetime.now(UTC), lambda done: bar.update(task, completed=done)
        )
    print(f"{count} rows imported for region {region!r}")
    return 0


def _region(text: str) -> str:
    if not is_region_name(text):
        raise argparse.ArgumentTypeError(f"must be 1 to 64 letters, digits, - or _, got {text!r}")
    return text


def _zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (OSError, ValueError, LookupError):
        raise argparse.ArgumentTypeError(f"is no IANA time zone, got {text!r}") from None


if __name__ == "__main__":
    sys.exit(main())
