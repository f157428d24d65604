"""The backfill directory under a lease: a process that lost the directory to another one writes nothing."""

import json

import fsspec
import pytest
from support.backfill import FIRST, JOB, SECOND, START, THIRD, commit, final_partitions

from iovox_async import BackfillLockedError
from iovox_async.backfill._directory import BackfillDirectory
from iovox_async.backfill._locks import LeaseLock
from iovox_async.backfill._manifest import MANIFEST
from iovox_async.backfill._storage_remote import RemoteStorage


class CountingLease(LeaseLock):
    """A lease that counts its renewals."""

    renewals = 0

    def renew(self):
        CountingLease.renewals += 1
        super().renew()


@pytest.fixture
def storage(tmp_path, monkeypatch):
    """A store whose lock has to be renewed."""
    storage = RemoteStorage(fsspec.filesystem("file"), str(tmp_path))
    monkeypatch.setattr(storage, "lock", lambda: CountingLease(storage.fs, storage.full_path("_iovox/lock")))
    monkeypatch.setattr(CountingLease, "renewals", 0)
    return storage


@pytest.fixture
def open_directory(storage, clock):
    """Returns a function that opens the directory; at the end of the test all are closed."""
    directories = []

    def open_directory():
        directory = BackfillDirectory(storage, JOB, clock=clock)
        directory.open(START, START)
        directories.append(directory)
        return directory

    yield open_directory
    for directory in directories:
        directory.close()


ACTIONS = {
    "flush": lambda directory: directory.flush(),
    "commit": lambda directory: commit(directory, SECOND),
    "heartbeat": lambda directory: directory.heartbeat(),
    "mark_not_final": lambda directory: directory.mark_not_final([FIRST]),
}


@pytest.mark.parametrize("has_ended", [False, True], ids=["other is running", "other has ended"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_directory_taken_over_is_not_written(action, has_ended, storage, open_directory, clock):
    """Given a lease that expired and was taken over, each action raises and leaves the other's manifest and lock alone.

    The other process has removed the files that the manifest of this one would name.
    """
    directory = open_directory()
    commit(directory, FIRST)
    commit(directory, SECOND)
    lease = json.loads(storage.read("_iovox/lock"))
    expired = json.dumps(lease | {"renewed_at": lease["renewed_at"] - 3600}).encode()
    storage.fs.pipe_file(storage.full_path("_iovox/lock"), expired)
    other = open_directory()
    commit(other, THIRD)
    manifest = storage.read(MANIFEST)
    assert final_partitions(storage) == [FIRST, THIRD]
    if has_ended:
        other.close()
    if action in {"commit", "heartbeat"}:
        clock.now += 1.0
    with pytest.raises(BackfillLockedError):
        ACTIONS[action](directory)
    assert storage.read(MANIFEST) == manifest
    directory.close()
    assert (storage.read("_iovox/lock") is None) is has_ended


def test_the_lease_is_renewed_each_minute_and_before_each_manifest(open_directory, clock):
    """Given many heartbeats, the lease is renewed once a minute, and before each version of the manifest."""
    directory = open_directory()
    before = CountingLease.renewals
    for _ in range(100):
        directory.heartbeat()
    assert CountingLease.renewals == before
    clock.now += 61
    directory.heartbeat()
    directory.heartbeat()
    assert CountingLease.renewals == before + 1
    commit(directory, FIRST)
    commit(directory, SECOND)
    assert CountingLease.renewals == before + 2


def test_the_lease_is_renewed_while_checksums_are_computed(storage, open_directory, clock, monkeypatch):
    """Given files that take longer to read than the lease lasts, it is renewed between them."""
    directory = open_directory()
    for name in (FIRST, SECOND, THIRD):
        commit(directory, name)
    directory.flush()
    before, sha256 = CountingLease.renewals, storage.sha256

    def slow_sha256(path):
        clock.now += 61
        return sha256(path)

    monkeypatch.setattr(storage, "sha256", slow_sha256)
    assert directory.find_damaged() == {}
    assert CountingLease.renewals >= before + 2
