"""Real servers on loopback for the lanes: fetched from a registry, started, and ended with their block."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

import lane  # noqa: E402

ELASTICMQ = "org.elasticmq:elasticmq-server_2.13:1.6.11"
DYNAMODB_LOCAL = "com.amazonaws:DynamoDBLocal:2.5.2"
OPENSEARCH = "org.opensearch.distribution.integ-test-zip:opensearch:2.19.3"
VICTORIA_LOGS = "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs@v1.52.1"
NOBODY = 65534
"""OpenSearch refuses to run as root: it then runs as this user."""

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>trailship.tests</groupId><artifactId>servers</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>
  </dependencies>
</project>
"""


class CannotBeHad(Exception):
    """A server is not to be had on this machine; the text says why."""


def java(tool: str = "java", package: str = "") -> None:
    """Makes sure that there is Java, and a tool that runs on it; raises `CannotBeHad` where it cannot be installed."""
    if shutil.which(tool) is None or shutil.which("java") is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise CannotBeHad(f"needs java and {tool}" if package else "needs java")
        packages = f"{package} openjdk-17-jre-headless"
        install = f"apt-get update -q && apt-get install -y -q --no-install-recommends {packages}"
        if subprocess.run(["bash", "-c", install], capture_output=True, timeout=600).returncode != 0:
            raise CannotBeHad(f"needs {packages.strip()}, and apt-get could not install it")


def maven(*arguments: str, folder: Path) -> None:
    """Runs Maven in `folder`; raises `CannotBeHad` where there is none or it fails."""
    java("mvn", "maven")
    run = subprocess.run(["mvn", "-q", "-B", *arguments], cwd=folder, capture_output=True, text=True, timeout=600)
    if run.returncode != 0:
        lines = (line.removeprefix("[ERROR]").strip() for line in run.stdout.splitlines() + run.stderr.splitlines())
        raise CannotBeHad(f"Maven Central: {next(filter(None, lines), 'no word of why')[:300]}")


def fetch_jars(tools: Path, name: str, coordinates: str) -> Path:
    """The folder with a server's jars, in its folder `lib`."""
    home = tools / name
    if not (home / "ready").exists():
        home.mkdir(parents=True, exist_ok=True)
        group, artifact, version = coordinates.split(":")
        (home / "pom.xml").write_text(POM.format(group=group, artifact=artifact, version=version))
        maven("dependency:copy-dependencies", "-DoutputDirectory=lib", folder=home)
        (home / "ready").touch()
    return home


def fetch_opensearch(tools: Path) -> Path:
    """The archive of OpenSearch's distribution."""
    archive = tools / "opensearch-2.19.3.zip"
    if not archive.exists():
        tools.mkdir(parents=True, exist_ok=True)
        maven("dependency:copy", f"-Dartifact={OPENSEARCH}:zip", f"-DoutputDirectory={tools}", folder=tools)
    return archive


def debian(tools: Path, name: str, packages: tuple[str, ...]) -> Path:
    """The folder where packages of Debian's are unpacked, not installed: needs no rights, and disturbs nothing."""
    home = tools / f"debian-{name}"
    if (home / "ready").exists():
        return home
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise CannotBeHad("needs Debian's apt-get and dpkg-deb")
    shutil.rmtree(home, ignore_errors=True)
    (home / "packages").mkdir(parents=True)
    download = ["apt-get", "download", "-q", *packages]
    run = subprocess.run(download, cwd=home / "packages", capture_output=True, text=True, timeout=300)
    if run.returncode != 0 and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-q"], capture_output=True, timeout=300)
        run = subprocess.run(download, cwd=home / "packages", capture_output=True, text=True, timeout=300)
    if run.returncode != 0:
        lines = [line.strip() for line in run.stderr.splitlines() if line.startswith("E:")]
        raise CannotBeHad(f"apt-get: {(lines or ['no word of why'])[0][:300]}")
    for package in sorted((home / "packages").glob("*.deb")):
        unpacked = subprocess.run(["dpkg-deb", "-x", package, home], capture_output=True, text=True, timeout=60)
        if unpacked.returncode != 0:
            raise CannotBeHad(f"dpkg-deb: {unpacked.stderr.strip()[:300]}")
    (home / "ready").touch()
    return home


@contextlib.contextmanager
def elasticmq(tools: Path, folder: Path) -> Iterator[str]:
    """A running ElasticMQ; its address."""
    home = fetch_jars(tools, "elasticmq-1.6.11", ELASTICMQ)
    port = lane.free_port()
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "elasticmq.conf"
    settings.write_text(
        f"""include classpath("application.conf")
node-address {{ protocol = http, host = "127.0.0.1", port = {port}, context-path = "" }}
rest-sqs {{ enabled = true, bind-hostname = "127.0.0.1", bind-port = {port}, sqs-limits = strict }}
rest-stats {{ enabled = false }}
aws {{ region = us-east-1, accountId = 000000000000 }}
"""
    )
    command = [
        "java",
        "-Xmx256m",
        f"-Dconfig.file={settings}",
        "-cp",
        f"{home}/lib/*",
        "org.elasticmq.server.Main",
    ]
    with process(command, folder / "elasticmq.log", f"http://127.0.0.1:{port}/", seconds=60):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def dynamodb_local(tools: Path, folder: Path) -> Iterator[str]:
    """A running DynamoDB Local that keeps nothing; its address."""
    java()
    home = fetch_jars(tools, "dynamodb-local-2.5.2", DYNAMODB_LOCAL)
    port = lane.free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        "java",
        "-Xmx256m",
        f"-Djava.library.path={home}/lib",
        "-cp",
        f"{home}/lib/*",
        "com.amazonaws.services.dynamodbv2.local.main.ServerRunner",
        *("-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(port)),
    ]
    with process(command, folder / "dynamodb-local.log", f"http://127.0.0.1:{port}/", seconds=60):
        yield f"http://127.0.0.1:{port}"


def fetch_victoria_logs(tools: Path) -> Path:
    """The binary of VictoriaLogs, built from its module."""
    binary = tools / "victoria-logs"
    if not binary.exists():
        if shutil.which("go") is None:
            raise CannotBeHad("needs go")
        tools.mkdir(parents=True, exist_ok=True)
        more = {"GOBIN": str(tools), "GOFLAGS": "-buildvcs=false"}
        command = ["go", "install", VICTORIA_LOGS]
        run = subprocess.run(command, env=os.environ | more, capture_output=True, text=True, timeout=900)
        if run.returncode != 0:
            lines = [line for line in run.stderr.splitlines() if not line.startswith("go: downloading")]
            raise CannotBeHad(f"the Go module proxy: {' '.join(lines)[:300]}")
    return binary


@contextlib.contextmanager
def victoria_logs(tools: Path, folder: Path) -> Iterator[str]:
    """A running VictoriaLogs; its address."""
    binary, port = fetch_victoria_logs(tools), lane.free_port()
    folder.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{port}"
    command = [str(binary), f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={folder}/data"]
    # Entries older than its retention are accepted and dropped: generated events are of past years.
    command.append("-retentionPeriod=100y")
    with process(command, folder / "victoria-logs.log", f"{url}/health", seconds=60):
        yield url


@dataclass
class OpenSearch:
    """An installed node, which can be killed and started again on its data."""

    home: Path
    port: int
    server: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        command = ["./bin/opensearch"]
        if os.geteuid() == 0:
            command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]
        more = {
            "OPENSEARCH_JAVA_OPTS": "-Xms512m -Xmx512m",
            "OPENSEARCH_JAVA_HOME": java_home(),
            "OPENSEARCH_TMPDIR": str(self.home / "logs"),
            "HOME": str(self.home),
        }
        self.server = spawn(command, self.home.parent / "opensearch.log", self.url, 180, cwd=self.home, more=more)

    def kill(self) -> None:
        """SIGKILL, without a word."""
        assert self.server is not None
        self.server.send_signal(signal.SIGKILL)
        self.server.wait()


@contextlib.contextmanager
def opensearch(tools: Path, folder: Path) -> Iterator[OpenSearch]:
    """A running OpenSearch with one empty node."""
    archive = fetch_opensearch(tools)
    # Unpacked for each run: the unprivileged user that it runs as may not reach the folder of the tools.
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)
    home = folder / "opensearch-2.19.3"
    for script in (home / "bin").iterdir():
        script.chmod(0o755)
    node, inner = OpenSearch(home, lane.free_port()), lane.free_port()
    with (home / "config" / "opensearch.yml").open("a") as settings:
        settings.write(
            f"""
network.host: 127.0.0.1
http.port: {node.port}
transport.port: {inner}
discovery.type: single-node
cluster.routing.allocation.disk.threshold_enabled: false
"""
        )
    (home / "logs").mkdir(exist_ok=True)
    if os.geteuid() == 0:
        give_away(home)
        folder.chmod(0o755)
    try:
        node.start()
        yield node
    finally:
        if node.server is not None:
            end(node.server)


def java_home() -> str:
    """Where the `java` of the path lives."""
    return str(Path(shutil.which("java") or "/usr/bin/java").resolve().parents[1])


def give_away(folder: Path) -> None:
    """Makes `folder` the unprivileged user's."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)


@contextlib.contextmanager
def process(command: list[str], log: Path, url: str, seconds: float) -> Iterator[None]:
    """Runs a server until the block ends."""
    server = spawn(command, log, url, seconds)
    try:
        yield
    finally:
        end(server)


def spawn(
    command: list[str], log: Path, url: str, seconds: float, cwd: Path | None = None, more: dict[str, str] | None = None
) -> subprocess.Popen:
    """Starts a server and waits until it answers; the tail of its log is printed where it does not come up."""
    with log.open("ab") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, cwd=cwd, env=os.environ | (more or {}))
    try:
        lane.wait_until(command[0], seconds, lambda: server.poll() is not None or lane.answers(url), every=0.5)
        if server.poll() is not None:
            raise lane.LaneFailed(f"{command[0]} ended with exit code {server.returncode}")
    except lane.LaneFailed:
        sys.stderr.write("".join(log.read_text(errors="replace").splitlines(keepends=True)[-20:]))
        end(server)
        raise
    return server


def end(server: subprocess.Popen) -> None:
    """Ends a server, if it still runs."""
    server.terminate()
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
