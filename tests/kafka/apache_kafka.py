"""One Apache Kafka node from its jars, on loopback, for tests and for `make kafka`.

    python tests/kafka/apache_kafka.py fetch            copy the jars with Maven, once
    python tests/kafka/apache_kafka.py run [--port N] [--data-dir DIR]

Needs a JDK or JRE of version 17 or newer; `fetch` also needs Maven. The jars go to
$RANKSTREAM_KAFKA_HOME, by default ~/.cache/rankstream/kafka.
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

POM = Path(__file__).with_name("pom.xml")
COMMAND = "python tests/kafka/apache_kafka.py"
JVM = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={logs}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.min.isr=1
num.network.threads=2
num.io.threads=2
num.recovery.threads.per.data.dir=1
background.threads=2
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=16777216
log.index.size.max.bytes=1048576
"""


class KafkaMissing(Exception):
    """Java, Maven or the jars are not there; the message is the line that says how to get them."""


class KafkaFailed(Exception):
    """The broker ended or did not answer in time; the message holds its last words."""


def home() -> Path:
    """The folder of the jars of the version that pom.xml names."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(os.environ.get("RANKSTREAM_KAFKA_HOME") or cache / "rankstream" / "kafka")
    version = ET.parse(POM).findtext(".//{*}dependency/{*}version")
    return root / f"kafka-{version}"


def fetch() -> Path:
    """Copy the jars with Maven, unless they are there; returns their folder."""
    target = home()
    if target.is_dir():
        return target
    maven = _tool("mvn", "install Maven (Debian: apt install maven)")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=target.name, dir=target.parent))
    goal = [maven, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
    try:
        subprocess.run(
            [*goal, "-DincludeScope=runtime", f"-DoutputDirectory={scratch / 'jars'}"], check=True
        )
        (scratch / "jars").rename(target)  # whole or not at all
    except OSError:
        if not target.is_dir():  # else: another process fetched meanwhile
            raise
    except subprocess.CalledProcessError as error:
        msg = f"Maven could not copy the jars (status {error.returncode}, see above)"
        raise KafkaMissing(msg) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def jars() -> Path:
    """The folder of jars that `fetch` has filled.

    Raises:
        KafkaMissing: it has not.
    """
    if not home().is_dir():
        msg = f"Apache Kafka's jars are not in {home()}; run: {COMMAND} fetch"
        raise KafkaMissing(msg)
    return home()


class KafkaBroker:
    """One broker (KRaft, broker and controller in one process) over one folder.

    Raises:
        KafkaMissing: Java or the jars are not there.
    """

    incarnations = ()  # Apache Kafka gives topics ids of its own

    def __init__(self, data_dir: Path, port: int = 0) -> None:
        self.data_dir = data_dir
        self._java = _tool("java", "install a JRE 17 or newer (Debian: apt install openjdk-17-jre)")
        self._classpath = str(jars() / "*")
        self._port = port or _free_port()
        self._controller = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, timeout_s: float = 60.0) -> str:
        """Format the folder where it is new, start, wait until ready; returns the address."""
        if self.alive():
            return self.bootstrap
        self.data_dir.mkdir(parents=True, exist_ok=True)
        config = self.data_dir / "server.properties"
        logs = self.data_dir / "logs"
        config.write_text(
            PROPERTIES.format(port=self._port, controller=self._controller, logs=logs)
        )
        if not (logs / "meta.properties").exists():
            self._format(config)
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [self._java, *JVM, "-cp", self._classpath, "kafka.Kafka", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.wait_ready(timeout_s)
        return self.bootstrap

    def wait_ready(self, timeout_s: float) -> None:
        """Return once the broker answers a request for the cluster's description."""
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if not self.alive() or time.monotonic() > deadline:
                tail = self._output.read_text(errors="replace")[-2000:]
                self.kill()
                msg = f"Kafka at {self.bootstrap} is not ready after {timeout_s:g} s:\n{tail}"
                raise KafkaFailed(msg)
            time.sleep(0.02)

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, timeout_s: float = 30.0) -> None:
        """SIGTERM, which flushes; SIGKILL after ``timeout_s``."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> str:
        self.stop()
        return self.start()

    @property
    def _output(self) -> Path:
        return self.data_dir / "kafka.log"

    def _format(self, config: Path) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # One word: by itself, an id that begins with a dash is read as an option.
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(config)]
        done = subprocess.run(
            [self._java, *JVM, "-cp", self._classpath, *tool], capture_output=True, text=True
        )
        if done.returncode:
            msg = f"Kafka could not format {self.data_dir}:\n{done.stdout}{done.stderr}"
            raise KafkaFailed(msg)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1.0).close()
            admin = KafkaAdminClient(bootstrap_servers=self.bootstrap, bootstrap_timeout_ms=2000)
        except (OSError, KafkaError):
            return False
        try:
            return bool(admin.describe_cluster()["brokers"])
        except KafkaError:
            return False
        finally:
            admin.close()


def run(data_dir: Path | None, port: int) -> None:
    """Run one broker until SIGINT or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory(prefix="rankstream-kafka-") as scratch:
        broker = KafkaBroker(data_dir or Path(scratch), port)
        try:
            print(f"Apache Kafka is ready: --bootstrap-servers {broker.start()}", flush=True)
            while not ended.wait(0.5):
                if not broker.alive():
                    msg = f"Kafka ended by itself; see {broker.data_dir / 'kafka.log'}"
                    raise KafkaFailed(msg)
        finally:
            broker.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("fetch", help="copy the jars with Maven, unless they are there")
    runner = verbs.add_parser("run", help="run one broker in the foreground")
    runner.add_argument("--port", type=int, default=9092, help="loopback port; 0: any (9092)")
    runner.add_argument(
        "--data-dir", type=Path, help="keep the log here; default: a scratch folder"
    )
    arguments = parser.parse_args()
    try:
        if arguments.verb == "fetch":
            print(fetch())
        else:
            fetch()
            run(arguments.data_dir, arguments.port)
    except (KafkaMissing, KafkaFailed) as error:
        sys.exit(str(error))


def _tool(name: str, advice: str) -> str:
    found = shutil.which(name)
    if found is None:
        msg = f"{name} is not on the PATH; {advice}, then run: {COMMAND} fetch"
        raise KafkaMissing(msg)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
