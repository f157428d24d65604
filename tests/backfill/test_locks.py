"""Locks of a backfill directory: one holder at a time, and none that outlives its process."""

import socket
import subprocess
import sys
import time

import fsspec
import msgspec
import pytest

from iovox_async import BackfillLockedError
from iovox_async.backfill._locks import DirectoryLock, LeaseLock


def test_the_second_process_raises_until_the_lock_is_released(storage):
    """Given a lock that is held, acquiring it again raises and names the holder; after release it succeeds."""
    storage.prepare()
    first, second = storage.lock(), storage.lock()
    first.acquire()
    with pytest.raises(BackfillLockedError, match=r"is locked by process \d+ on "):
        second.acquire()
    first.renew()
    first.release()
    first.release()
    second.acquire()
    second.release()


@pytest.mark.subprocess
@pytest.mark.fault(58)
def test_a_lock_ends_with_its_process(tmp_path):
    """Given a process that holds a lock, after `kill -9` the directory is free."""
    code = (
        "import pathlib, sys, time; from iovox_async.backfill._locks import DirectoryLock;"
        "lock = DirectoryLock(pathlib.Path(sys.argv[1])); lock.acquire();"
        "print('acquired', flush=True); time.sleep(60)"
    )
    (tmp_path / "_iovox").mkdir()
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"acquired\n"
        with pytest.raises(BackfillLockedError, match=f"process {holder.pid} "):
            DirectoryLock(tmp_path).acquire()
        holder.kill()
    lock = DirectoryLock(tmp_path)
    lock.acquire()
    lock.release()


@pytest.fixture(scope="module")
def ended_process():
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


class TestLease:
    @pytest.fixture
    def path(self, tmp_path):
        (tmp_path / "_iovox").mkdir()
        return tmp_path / "_iovox/lock"

    @pytest.fixture
    def new_lease(self, path):
        return lambda **options: LeaseLock(fsspec.filesystem("file"), str(path), **options)

    @pytest.mark.subprocess
    @pytest.mark.parametrize(
        ("holder", "age", "is_free"),
        [
            ({"host": "elsewhere", "pid": 1}, 0, False),
            ({"host": "elsewhere", "pid": 1}, 3600, True),
            ({"host": "elsewhere", "pid": 1}, -7200, True),
            ({"host": socket.gethostname(), "pid": None}, 0, True),
            (None, 0, True),
        ],
        ids=["renewed", "expired", "renewed in the future", "process has ended", "unreadable"],
    )
    def test_a_lease_is_free_when_it_expired_or_its_process_ended(
        self, holder, age, is_free, path, new_lease, ended_process
    ):
        """Given the lease of another holder, it can be acquired if it expired, is unreadable, or its process has ended."""
        if holder is None:
            path.write_bytes(b"\x00 no lock")
        else:
            details = {"token": "other", "renewed_at": time.time() - age}
            path.write_bytes(msgspec.json.encode(holder | details | {"pid": holder["pid"] or ended_process}))
        lease = new_lease()
        if is_free:
            lease.acquire()
            lease.release()
            assert not path.exists()
        else:
            with pytest.raises(BackfillLockedError, match="elsewhere"):
                lease.acquire()
            lease.release()
            assert path.exists()

    @pytest.mark.parametrize("has_ended", [False, True], ids=["other is running", "other has ended"])
    def test_renewing_a_lease_that_was_taken_over_raises(self, has_ended, path, new_lease):
        """Given a lease that another process took over, and perhaps released, renew raises and release leaves it alone."""
        slow, other = (new_lease(duration=0.0) for _ in range(2))
        slow.acquire()
        other.acquire()
        if has_ended:
            other.release()
        with pytest.raises(BackfillLockedError, match="is gone" if has_ended else "is locked by"):
            slow.renew()
        slow.release()
        assert path.exists() is not has_ended

    def test_renew_writes_only_an_aged_lease(self, path, new_lease):
        """Given a lease of ten minutes, renew writes it when its last renewal is more than 30 s away."""
        lease = new_lease()
        lease.acquire()
        for age, is_written in ((20, False), (40, True), (-40, True)):
            holder = msgspec.json.decode(path.read_bytes())
            aged = msgspec.json.encode(holder | {"renewed_at": time.time() - age})
            path.write_bytes(aged)
            lease.renew()
            assert (path.read_bytes() != aged) is is_written
        lease.release()

    def test_of_two_processes_one_takes_an_expired_lease_over(self, path, new_lease):
        """Given an expired lease, a process that reads it while another takes it over raises and changes nothing."""
        path.write_bytes(
            msgspec.json.encode({"host": "elsewhere", "pid": 1, "token": "old", "renewed_at": 0.0})
        )
        first, second = new_lease(), new_lease()
        read = second._read

        def read_late(name=None):
            holder = read(name)
            if first._token == "":
                first.acquire()
            return holder

        second._read = read_late
        with pytest.raises(BackfillLockedError):
            second.acquire()
        first.renew()
        first.release()
        assert list(path.parent.iterdir()) == []

    def test_a_claim_left_behind_expires(self, path, new_lease):
        """Given a process killed while it took a lease over, the next one takes over from both, once the claim has expired."""
        expired = {"host": "elsewhere", "pid": 1, "renewed_at": 0.0}
        path.write_bytes(msgspec.json.encode(expired | {"token": "old"}))
        claim = path.with_name("lock.old")
        claim.write_bytes(msgspec.json.encode(expired | {"token": "killed", "renewed_at": time.time()}))
        with pytest.raises(BackfillLockedError):
            new_lease().acquire()
        claim.write_bytes(msgspec.json.encode(expired | {"token": "killed"}))
        lease = new_lease()
        lease.acquire()
        lease.release()
        assert list(path.parent.iterdir()) == []

    def test_an_expired_lease_that_somebody_takes_over_is_not_renewed(self, path, new_lease):
        """Given a process that slept too long while another has claimed its lease, renew raises."""
        slow = new_lease()
        slow.acquire()
        holder = msgspec.json.decode(path.read_bytes())
        path.write_bytes(msgspec.json.encode(holder | {"renewed_at": 0.0}))
        claim = path.with_name(f"lock.{holder['token']}")
        claim.write_bytes(
            msgspec.json.encode({"host": "elsewhere", "pid": 1, "token": "x", "renewed_at": time.time()})
        )
        with pytest.raises(BackfillLockedError):
            slow.renew()
        claim.unlink()
        slow.renew()
        slow.release()
