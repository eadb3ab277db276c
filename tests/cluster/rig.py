"""A real SLURM on one machine, as root on Debian: controller, six nodes, pretended GPUs.

    python tests/cluster/rig.py start DIR [--accounting]
    python tests/cluster/rig.py stop DIR

Nodes g8, g12, g24 and g40 claim one GPU of so many GB, c1 and c2 none; partitions are described in
slurm.conf.in. Outside of DIR there is one link, /etc/slurm/slurm.conf, since the job step of
Snakemake's plugin drops SLURM_CONF, and with --accounting a line of node names in /etc/hosts; `stop` takes
both back. Without --accounting there is no database.
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
from pathlib import Path

import accounting
from processes import MARK, end, members, wait_until

NODES = ("g8", "g12", "g24", "g40", "c1", "c2")
GPUS = {"g8": ("small", "8G"), "g12": ("medium", "12G"), "g24": ("large", "24G"),
        "g40": ("huge", "40G")}  # fmt: skip
LINK = Path("/etc/slurm/slurm.conf")
_TEMPLATE = Path(__file__).with_name("slurm.conf.in")
_POLICY = Path("/usr/sbin/policy-rc.d")


def usable() -> bool:
    """Whether this machine can hold the rig."""
    return os.geteuid() == 0 and (shutil.which("slurmctld") or shutil.which("apt-get")) is not None


class Rig:
    """The cluster in `folder`; a context manager that leaves nothing behind."""

    def __init__(self, folder: Path, accounting: bool = False, port: int = 27817) -> None:
        self.folder, self.accounting, self.port = Path(folder).resolve(), accounting, port
        self.conf = self.folder / "slurm.conf"
        self.stopped = False
        self.host = os.uname().nodename.split(".")[0]

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
        if LINK.exists() and not LINK.is_symlink():
            raise RuntimeError(f"{LINK} is there: this machine belongs to a real SLURM")
        if (
            LINK.exists()
            and subprocess.run(["scontrol", "ping"], capture_output=True).returncode == 0
        ):
            raise RuntimeError(f"{LINK.readlink()} is in use: another rig runs on this machine")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self._configure()
        self._munge()
        if self.accounting:
            accounting.name_nodes(NODES)
            accounting.start(self)
        self.daemon("slurmctld")
        wait_until(lambda: self.ask("scontrol", "ping").returncode == 0, 300, "slurmctld")
        for node in NODES:
            self.start_node(node)
        self.await_nodes()

    def start_node(self, node: str) -> None:
        """Start the daemon of one node."""
        self.daemon("slurmd", "-N", node)

    def await_nodes(self) -> None:
        """Wait until every node takes jobs."""

        def ready() -> bool:
            states = self.ask("sinfo", "-h", "-N", "-o", "%N %T").stdout.split("\n")
            up = {line.split()[0] for line in states
                  if line and line.split()[1] in ("idle", "mixed", "allocated")}  # fmt: skip
            return up == set(NODES)

        wait_until(ready, 300, "the nodes")

    def _configure(self) -> None:
        version = tuple(map(int, re.findall(r"\d+", self.run("slurmctld", "-V").stdout)[:2]))
        values = {
            "HOST": self.host,
            "DIR": str(self.folder),
            "ACCOUNTING": accounting.configuration(self),
            "COMM": "",
        }
        values |= {"PORT" + (str(i) if i else ""): str(self.port + i) for i in (*range(6), 8, 9)}
        if _address(self.host) == "127.0.0.1":
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
        self.run(
            "munged", "--force", "--origin=127.0.0.1", f"--key-file={key}", f"--socket={base}/socket",
            f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log",
            f"--seed-file={base}/seed",
        )  # fmt: skip
        wait_until(
            lambda: self.ask("munge", "-S", f"{base}/socket", "-n").returncode == 0, 300, "munged"
        )

    def daemon(self, *command: str) -> None:
        """Start a daemon, which goes to the background by itself."""
        with open(self.folder / f"{command[-1]}.out", "a") as log:
            code = subprocess.run(command, cwd=self.folder, env=self.environment, stdout=log,
                                  stderr=log, stdin=subprocess.DEVNULL).returncode  # fmt: skip
        if code:
            raise RuntimeError(f"{' '.join(command)} failed; see {self.folder}")

    # ---- use --------------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """Environment of commands that talk to this cluster."""
        return os.environ | {"SLURM_CONF": str(self.conf), MARK: str(self.folder)}

    def ask(self, *command: str) -> subprocess.CompletedProcess:
        """Run a command of SLURM; its exit status is the caller's business."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True,
                              timeout=300)  # fmt: skip

    def run(self, *command: str) -> subprocess.CompletedProcess:
        """Run a command of SLURM that must succeed."""
        done = self.ask(*command)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done

    # ---- stop -------------------------------------------------------------------------------

    def stop_node(self, node: str) -> None:
        """End the daemon of one node and its jobs at once, as a power cut would."""
        self._end(f"slurmd-{node}", signal.SIGKILL)
        for pid in members(self.folder, node):
            end(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Cancel all jobs, end every process of the cluster by its id, remove `folder`."""
        self.stopped = True
        if (self.folder / "slurmctld.pid").exists():
            self.ask("scancel", "-u", "root")
            wait_until(lambda: not self.ask("squeue", "-h").stdout.strip(), 20, "jobs", fail=False)
        for name in (*(f"slurmd-{node}" for node in NODES), "slurmctld", "slurmdbd", "mariadbd",
                     "munged"):  # fmt: skip
            self._end(name)
        for pid in members(self.folder):
            end(pid, signal.SIGKILL)
        if LINK.is_symlink() and str(LINK.readlink()) == str(self.conf):
            LINK.unlink()
            accounting.name_nodes([])
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, name: str, number: int = signal.SIGTERM) -> None:
        path = self.folder / f"{name}.pid"
        pid = int(path.read_text().strip() or 0) if path.exists() else 0
        if pid in members(self.folder):
            end(pid, number)
        path.unlink(missing_ok=True)


def install(with_accounting: bool) -> None:
    """Install missing packages by apt without letting it start their services."""
    wanted = {"slurm-wlm": "slurmctld", "slurm-client": "sbatch", "munge": "munged"}
    if with_accounting:
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
