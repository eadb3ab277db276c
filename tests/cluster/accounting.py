"""The optional layer of the rig: MariaDB and slurmdbd, with one account."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from processes import wait_until

if TYPE_CHECKING:
    from rig import Rig

DATABASE = "slurm_acct_db"
ACCOUNT = "testacct"
HOSTS, _LINE = Path("/etc/hosts"), "# test rig of caesar-freq"


def configuration(rig: Rig) -> str:
    """Lines of slurm.conf."""
    if not rig.accounting:
        return "AccountingStorageType=accounting_storage/none"
    return (
        "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n"
        f"AccountingStoragePort={rig.port + 6}\nAccountingStoragePass={rig.folder}/munge/socket\n"
        "AccountingStorageTRES=gres/gpu\nAccountingStoreFlags=job_comment\n"
        "AccountingStorageEnforce=associations"
    )


def name_nodes(nodes: Iterable[str]) -> None:
    """Let /etc/hosts know `nodes`, since processes of a job meet by name; none takes it back."""
    kept = [line for line in HOSTS.read_text().splitlines() if not line.endswith(_LINE)]
    names = " ".join(nodes)
    HOSTS.write_text("\n".join([*kept, *([f"127.0.0.1 {names} {_LINE}"] if names else []), ""]))


def start(rig: Rig) -> None:
    """Start both daemons and make the account."""
    data, socket = rig.folder / "mysql", rig.folder / "mysql.sock"
    common = ["--no-defaults", "--user=root", f"--datadir={data}"]
    if not data.exists():
        rig.run("mariadb-install-db", *common, "--auth-root-authentication-method=normal",
                "--skip-test-db", "--force")  # fmt: skip
    with open(rig.folder / "mariadbd.log", "a") as log:
        subprocess.Popen(
            ["mariadbd", *common, f"--socket={socket}", f"--pid-file={rig.folder}/mariadbd.pid",
             f"--port={rig.port + 7}", "--bind-address=127.0.0.1", "--skip-name-resolve",
             "--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env=rig.environment,
        )  # fmt: skip
    client = ["mariadb", "--no-defaults", "-S", str(socket), "-u", "root", "-e"]
    wait_until(lambda: rig.ask(*client, "select 1").returncode == 0, 300, "mariadbd")
    password = secrets.token_hex(12)
    user = "'slurm'@'127.0.0.1'"
    rig.run(
        *client,
        f"create database if not exists {DATABASE}; create or replace user {user} identified by "
        f"'{password}'; grant all on {DATABASE}.* to {user}",
    )
    conf = rig.folder / "slurmdbd.conf"
    conf.touch(0o600)
    conf.write_text(
        f"AuthType=auth/munge\nAuthInfo=socket={rig.folder}/munge/socket\nDbdHost={rig.host}\n"
        f"DbdAddr=127.0.0.1\nDbdPort={rig.port + 6}\nSlurmUser=root\n"
        f"LogFile={rig.folder}/slurmdbd.log\nPidFile={rig.folder}/slurmdbd.pid\n"
        "StorageType=accounting_storage/mysql\nStorageHost=127.0.0.1\n"
        f"StoragePort={rig.port + 7}\nStorageUser=slurm\nStoragePass={password}\n"
        f"StorageLoc={DATABASE}\nCommitDelay=1\n"
    )
    rig.daemon("slurmdbd")
    wait_until(
        lambda: rig.ask("sacctmgr", "-n", "list", "cluster").returncode == 0, 300, "slurmdbd"
    )
    for added in (["cluster", "rig"], ["account", ACCOUNT, "cluster=rig"],
                  ["user", "root", f"account={ACCOUNT}", "cluster=rig"]):  # fmt: skip
        rig.ask("sacctmgr", "-i", "-Q", "add", *added)
