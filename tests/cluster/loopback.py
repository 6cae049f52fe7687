"""A real SLURM of one node on loopback: started from a config written here, stopped by pid."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
_CONFIG = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
MpiDefault=none
KillWait=30
MinJobAge=300
RebootProgram=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Return why there can be no SLURM; install Debian's packages as root."""
    if shutil.which("slurmctld") and shutil.which("munged"):
        return None
    if os.geteuid() != 0:
        return "SLURM is not installed, and only root may install it"
    if shutil.which("apt-get") is None:
        return "SLURM is not installed, and there is no apt-get to do it"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    waiting = ["apt-get", "-o", "DPkg::Lock::Timeout=300"]  # other tests install packages, too
    for command in ([*waiting, "update", "-qq"], [*waiting, "install", "-y", "-qq", *PACKAGES]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        return f"SLURM cannot be installed: {done.stderr.strip()[-200:]}"
    return None


class Cluster:
    """One node with two cores; ``environment`` is that of SLURM's commands."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.host = folder, socket.gethostname().split(".")[0]
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self.processes: dict[str, subprocess.Popen] = {}
        for name in ("state", "spool"):
            (folder / name).mkdir()
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        text = _CONFIG.format(host=self.host, folder=folder, ports=_ports(2), memory=pages * size // 2**20 - 512)
        (folder / "slurm.conf").write_text(text)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)

    def start(self) -> None:
        """Start munged, slurmctld and slurmd, and wait until the node is idle."""
        folder = self.folder
        munge = ["munged", "--foreground", "--force"]
        for option, name in {"socket": "socket", "key-file": "key", "pid-file": "pid", "seed-file": "seed"}.items():
            munge.append(f"--{option}={folder}/munge.{name}")
        self._start("munged", munge)
        _until(lambda: (folder / "munge.socket").exists(), "munged")
        self._start("slurmctld", ["slurmctld", "-D", "-i"])
        self.start_node()

    def start_node(self) -> None:
        """Start slurmd, and wait until the node is idle."""
        self._start("slurmd", ["slurmd", "-D", "-N", self.host])
        _until(lambda: self.ask("sinfo", "-h", "-o", "%T").strip() in ("idle", "mixed", "allocated"), "the node")

    def _start(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self.processes[name] = subprocess.Popen(command, env=self.environment, stdout=out, stderr=out)

    def ask(self, *command: str) -> str:
        """Return the output of a SLURM command, empty if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout if done.returncode == 0 else ""

    def queue(self) -> list[tuple[str, str]]:
        """List the jobs: number and state."""
        lines = self.ask("squeue", "-h", "-r", "-o", "%i %T").splitlines()
        return [(line.split()[0], line.split()[1]) for line in lines]

    def stop(self) -> None:
        """Cancel all jobs and end the daemons."""
        self.ask("scancel", "--me")
        _until(lambda: not self.queue(), "the last jobs", 60)
        for name in ("slurmd", "slurmctld", "munged"):
            if (process := self.processes.get(name)) is not None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _until(condition, what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} is not ready after {seconds:.0f} s")
        time.sleep(0.2)
