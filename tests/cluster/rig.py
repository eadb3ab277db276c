"""A real SLURM on one machine, as root on Debian: controller, four nodes, pretended GPUs.

    python tests/cluster/rig.py start DIR [--accounting]
    python tests/cluster/rig.py stop DIR

Nodes g8, g12 and g24 claim one GPU of 8, 12 and 24 GB, c1 none; partitions are described in
slurm.conf.in. Outside of DIR there is one link, /etc/slurm/slurm.conf, since the job step of
Snakemake's plugin drops SLURM_CONF; `stop` takes it back. Without --accounting there is no database.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

NODES = ("g8", "g12", "g24", "c1")
GPUS = {"g8": ("small", "8G"), "g12": ("medium", "12G"), "g24": ("large", "24G")}
LINK = Path("/etc/slurm/slurm.conf")
PORT = 27817
_TEMPLATE = Path(__file__).with_name("slurm.conf.in")
_POLICY = Path("/usr/sbin/policy-rc.d")
_DATABASE = "slurm_acct_db"


def usable() -> bool:
    """Whether this machine can hold the rig."""
    return os.geteuid() == 0 and (shutil.which("slurmctld") or shutil.which("apt-get")) is not None


class Rig:
    """The cluster in `folder`; a context manager that leaves nothing behind."""

    def __init__(self, folder: Path, accounting: bool = False) -> None:
        self.folder, self.accounting = Path(folder).resolve(), accounting
        self.conf = self.folder / "slurm.conf"

    def __enter__(self) -> Rig:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- start ------------------------------------------------------------------------------

    def start(self) -> None:
        """Install what is missing, write the configuration, start the daemons, await the nodes."""
        install(self.accounting)
        if LINK.exists() and LINK.resolve() != self.conf:
            raise RuntimeError(f"{LINK} is there: another SLURM is in use on this machine")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self._configure()
        self._munge()
        if self.accounting:
            self._database()
        self._daemon("slurmctld")
        wait_until(lambda: self.ask("scontrol", "ping").returncode == 0, 30, "slurmctld")
        for node in NODES:
            self.start_node(node)
        self.await_nodes()

    def start_node(self, node: str) -> None:
        """Start the daemon of one node."""
        self._daemon("slurmd", "-N", node)

    def await_nodes(self) -> None:
        """Wait until every node takes jobs."""

        def ready() -> bool:
            states = self.ask("sinfo", "-h", "-N", "-o", "%N %T").stdout.split("\n")
            up = {line.split()[0] for line in states
                  if line and line.split()[1] in ("idle", "mixed", "allocated")}  # fmt: skip
            return up == set(NODES)

        wait_until(ready, 60, "the nodes")

    def _configure(self) -> None:
        host = os.uname().nodename.split(".")[0]
        version = tuple(map(int, re.findall(r"\d+", self._run("slurmctld", "-V").stdout)[:2]))
        accounting = "AccountingStorageType=accounting_storage/none"
        if self.accounting:
            accounting = (
                "AccountingStorageType=accounting_storage/slurmdbd\n"
                f"AccountingStorageHost=127.0.0.1\nAccountingStoragePort={PORT + 6}\n"
                f"AccountingStoragePass={self.folder}/munge/socket\n"
                "AccountingStorageTRES=gres/gpu\nAccountingStoreFlags=job_comment"
            )
        values = {"HOST": host, "DIR": str(self.folder), "ACCOUNTING": accounting, "COMM": ""}
        values |= {"PORT" + (str(i) if i else ""): str(PORT + i) for i in range(6)}
        if _address(host) == "127.0.0.1":
            values["COMM"] = "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny"
        text = re.sub(r"@([A-Z]+\d?)@", lambda m: values[m[1]], _TEMPLATE.read_text())
        self.conf.write_text(text)
        lines = ["AutoDetect=off"]
        for node, (kind, memory) in GPUS.items():
            device = self.folder / f"{node}-gpu0"  # a copy of /dev/null
            if not device.exists():
                os.mknod(device, 0o20666, os.makedev(1, 3))
            lines.append(f"NodeName={node} Name=gpu Type={kind} File={device}")
            lines.append(f"NodeName={node} Name=gpumem Count={memory} Flags=CountOnly")
        (self.folder / "gres.conf").write_text("\n".join(lines) + "\n")
        # slurmd looks for cgroups although nothing here uses them
        plugin = "cgroup/v1" if version < (23, 11) else "disabled"
        (self.folder / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")
        for name in ("state", "munge", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir(exist_ok=True)
        LINK.parent.mkdir(exist_ok=True)
        LINK.unlink(missing_ok=True)
        LINK.symlink_to(self.conf)

    def _munge(self) -> None:
        key = self.folder / "munge.key"
        if not key.exists():
            key.touch(0o600)
            key.write_bytes(secrets.token_bytes(1024))
        base = self.folder / "munge"
        self._run(
            "munged", "--force", "--origin=127.0.0.1", f"--key-file={key}", f"--socket={base}/socket",
            f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log",
            f"--seed-file={base}/seed",
        )  # fmt: skip
        wait_until(
            lambda: self.ask("munge", "-S", f"{base}/socket", "-n").returncode == 0, 10, "munged"
        )

    def _database(self) -> None:
        """MariaDB and slurmdbd, with one account."""
        data, socket = self.folder / "mysql", self.folder / "mysql.sock"
        common = ["--no-defaults", "--user=root", f"--datadir={data}"]
        if not data.exists():
            self._run("mariadb-install-db", *common, "--auth-root-authentication-method=normal",
                      "--skip-test-db", "--force")  # fmt: skip
        with open(self.folder / "mariadbd.log", "a") as log:
            subprocess.Popen(
                ["mariadbd", *common, f"--socket={socket}", f"--pid-file={self.folder}/mariadbd.pid",
                 f"--port={PORT + 7}", "--bind-address=127.0.0.1", "--skip-name-resolve",
                 "--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        client = ["mariadb", "--no-defaults", "-S", str(socket), "-u", "root", "-e"]
        wait_until(lambda: self.ask(*client, "select 1").returncode == 0, 60, "mariadbd")
        password = secrets.token_hex(12)
        user = "'slurm'@'127.0.0.1'"
        self._run(*client, f"create database if not exists {_DATABASE}; create or replace user "
                  f"{user} identified by '{password}'; grant all on {_DATABASE}.* to {user}")  # fmt: skip
        conf = self.folder / "slurmdbd.conf"
        conf.touch(0o600)
        conf.write_text(
            f"AuthType=auth/munge\nAuthInfo=socket={self.folder}/munge/socket\nDbdHost=localhost\n"
            f"DbdAddr=127.0.0.1\nDbdPort={PORT + 6}\nSlurmUser=root\n"
            f"LogFile={self.folder}/slurmdbd.log\nPidFile={self.folder}/slurmdbd.pid\n"
            "StorageType=accounting_storage/mysql\nStorageHost=127.0.0.1\n"
            f"StoragePort={PORT + 7}\nStorageUser=slurm\nStoragePass={password}\n"
            f"StorageLoc={_DATABASE}\nCommitDelay=1\n"
        )
        self._daemon("slurmdbd")
        wait_until(
            lambda: self.ask("sacctmgr", "-n", "list", "cluster").returncode == 0, 60, "slurmdbd"
        )
        for command in (["cluster", "rig"], ["account", "testacct", "cluster=rig"],
                        ["user", "root", "account=testacct", "cluster=rig"]):  # fmt: skip
            self.ask("sacctmgr", "-i", "-Q", "add", *command)

    def _daemon(self, *command: str) -> None:
        with open(self.folder / f"{command[-1]}.out", "a") as log:
            code = subprocess.run(command, cwd=self.folder, env=self.environment, stdout=log,
                                  stderr=log, stdin=subprocess.DEVNULL).returncode  # fmt: skip
        if code:
            raise RuntimeError(f"{' '.join(command)} failed; see {self.folder}")

    # ---- use --------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """Environment of commands that talk to this cluster."""
        return os.environ | {"SLURM_CONF": str(self.conf)}

    def ask(self, *command: str) -> subprocess.CompletedProcess:
        """Run a command of SLURM; its exit status is the caller's business."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True,
                              timeout=60)  # fmt: skip

    def _run(self, *command: str) -> subprocess.CompletedProcess:
        done = self.ask(*command)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done

    # ---- stop -------------------------------------------------------------------------------

    def stop_node(self, node: str) -> None:
        """End the daemon of one node at once, as a power cut would; its jobs go with it."""
        self._end(f"slurmd-{node}.pid", "slurmd", signal.SIGKILL)
        self._end_leftovers(node)

    def stop(self) -> None:
        """Cancel all jobs, end every process of the cluster by its id, remove `folder`."""
        if (self.folder / "slurmctld.pid").exists():
            self.ask("scancel", "-u", "root")
            wait_until(lambda: not self.ask("squeue", "-h").stdout.strip(), 20, "jobs", fail=False)
        for node in NODES:
            self._end(f"slurmd-{node}.pid", "slurmd")
        self._end_leftovers()
        for name in ("slurmctld", "slurmdbd", "mariadbd", "munged"):
            self._end(f"{name}.pid", name)
        if LINK.is_symlink() and str(LINK.readlink()) == str(self.conf):
            LINK.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self) -> list[str]:
        """Command lines of all processes that belong to this cluster or its jobs."""
        return [f"{pid} {_text(pid, 'cmdline')}" for pid in self._ours()]

    def _ours(self, node: str | None = None) -> list[int]:
        """Processes of jobs (of `node`) and daemons, known by SLURM_CONF or a path of this folder."""
        found = []
        for pid in (int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()):
            if pid == os.getpid():
                continue
            environment, line = _text(pid, "environ"), _text(pid, "cmdline")
            ours = f"SLURM_CONF={self.conf}" in environment and "SLURM_JOB_ID=" in environment
            ours |= line.startswith("slurmstepd") and any(
                str(self.folder) in target for target in _open_files(pid)
            )
            ours |= (
                f"{self.folder}/" in line
                and line.split("/")[-1] != "rig.py"
                and (line.startswith(("munged", "mariadbd")))
            )
            on_node = (
                node is None
                or f"SLURMD_NODENAME={node}\0" in environment + "\0"
                or any(
                    f"{self.folder}/slurmd-{node}.log" in target
                    or f"{self.folder}/spool-{node}" in target
                    for target in _open_files(pid)
                )
            )
            if ours and on_node:
                found.append(pid)
        return found

    def _end_leftovers(self, node: str | None = None) -> None:
        for pid in self._ours(node):
            if not _text(pid, "cmdline").startswith(("munged", "mariadbd")):
                _signal(pid, signal.SIGKILL)

    def _end(self, pidfile: str, word: str, number: int = signal.SIGTERM) -> None:
        path = self.folder / pidfile
        pid = int(path.read_text().strip() or 0) if path.exists() else 0
        if pid and word in _text(pid, "cmdline"):
            _signal(pid, number)
            if not wait_until(lambda: not Path(f"/proc/{pid}").exists(), 30, word, fail=False):
                _signal(pid, signal.SIGKILL)
        path.unlink(missing_ok=True)


def install(accounting: bool) -> None:
    """Install missing packages by apt without letting it start their services."""
    wanted = {"slurm-wlm": "slurmctld", "slurm-client": "sbatch", "munge": "munged"}
    if accounting:
        wanted |= {"slurmdbd": "slurmdbd", "mariadb-server": "mariadbd"}
    missing = [package for package, program in wanted.items() if not shutil.which(program)]
    if not missing:
        return
    made = not _POLICY.exists()
    if made:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        for command in ([*apt, "update"],
                        [*apt, "install", "-y", "--no-install-recommends", *missing]):  # fmt: skip
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    finally:
        if made:
            _POLICY.unlink()


def _address(host: str) -> str:
    words = subprocess.run(
        ["getent", "ahostsv4", host], capture_output=True, text=True
    ).stdout.split()
    return words[0] if words else ""


def _text(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _open_files(pid: int) -> list[str]:
    try:
        return [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def wait_until(
    condition: Callable[[], bool], seconds: float, what: str, fail: bool = True, pause: float = 0.3
) -> bool:
    """Ask again and again; RuntimeError naming `what` after `seconds`, or False without `fail`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(pause)
    if fail:
        raise RuntimeError(f"timed out waiting for {what}")
    return False


def main(argv: list[str] | None = None) -> None:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=("start", "stop"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--accounting", action="store_true", help="with slurmdbd and MariaDB")
    args = parser.parse_args(argv)
    rig = Rig(args.folder, args.accounting)
    if args.action == "stop":
        rig.stop()
        return
    rig.start()
    print(rig.ask("sinfo", "-N", "-o", "%6N %10P %8T %30G %f").stdout)
    print(f"export SLURM_CONF={rig.conf}")


if __name__ == "__main__":
    sys.exit(main())
