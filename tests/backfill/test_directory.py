"""A job's folder: when the manifest names what is there, and that nobody else's is written over."""

import json
import math
import tempfile
from datetime import datetime
from operator import itemgetter
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iovox_async import BackfillError, BackfillLockedError
from iovox_async.backfill._directory import BackfillDirectory
from iovox_async.backfill._job import Job, file_of
from iovox_async.backfill._locks import LeaseLock
from iovox_async.backfill._manifest import MANIFEST, Manifest, ManifestEntry
from iovox_async.backfill._storage import FileSystem, LocalStorage, RemoteStorage

JOB = Job(account="a", fields=("id",), filters={}, format="jsonl", partition="day", timezone=None)
START = datetime(2024, 1, 1)
FIRST, SECOND, THIRD = "2024-01-01", "2024-01-02", "2024-01-03"


class Recording(FileSystem):
    """A file system that knows in which order files got and lost their names, and refuses those it is told to."""

    def __init__(self):
        self.done = []
        self.refused = ()

    def sync(self, file):
        pass

    def sync_folder(self, path):
        pass

    def rename(self, old, new):
        if new.name in self.refused:
            raise OSError(5, "Input/output error")
        super().rename(old, new)
        self.done.append(("write", new.name))

    def unlink(self, path):
        super().unlink(path)
        self.done.append(("remove", path.parent.name))


class Lease(LeaseLock):
    """A lock that knows how often it was looked at."""

    looks = 0

    def renew(self):
        Lease.looks += 1
        super().renew()


@pytest.fixture
def files():
    return Recording()


@pytest.fixture
def store(tmp_path, files):
    return LocalStorage(tmp_path, files)


@pytest.fixture
def opened(store, clock):
    """Makes folders that are open, and closes them at the end."""
    made = []

    def make(where=store, **options):
        folder = BackfillDirectory(where, JOB, clock=clock)
        folder.open(START, START, **options)
        made.append(folder)
        return folder

    yield make
    for folder in made:
        folder.close()


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A store whose lock has to be renewed."""
    store = RemoteStorage(fsspec.filesystem("file"), str(tmp_path))
    monkeypatch.setattr(store, "lock", lambda: Lease(store.fs, store.path(".lock")))
    monkeypatch.setattr(Lease, "looks", 0)
    return store


def put(folder, name, text=b"{}\n", *, sealed=True):
    """Writes a partition's file and commits it; without text, a partition without calls."""
    day = datetime.fromisoformat(name)
    entry = ManifestEntry(partition=name, lo=day, hi=day.replace(day=day.day + 1), sealed=sealed)
    if text:
        with folder.store.draft(file_of(name, ".jsonl")) as draft:
            draft.write(text)
            draft.commit()
        entry = ManifestEntry(
            partition=name,
            lo=entry.lo,
            hi=entry.hi,
            sealed=sealed,
            rows=1,
            file=draft.name,
            bytes=draft.size,
            sha256=draft.digest,
        )
    folder.commit(entry)


def named(store):
    """The partitions that the manifest on the disk calls sealed."""
    manifest = Manifest.load(store.read(MANIFEST), JOB, START)
    assert not manifest.damage
    return [name for name, entry in sorted(manifest.entries.items()) if entry.sealed]


class TestNaming:
    def test_a_first_partition_is_named_at_once(self, opened, store):
        """Short runs, and the first of long ones, are safe as soon as they can be."""
        put(opened(), FIRST)
        assert named(store) == [FIRST]

    def test_a_second_one_within_the_second_is_named_by_settle(self, opened, store, clock):
        """Until then a killed process has not finished it."""
        folder = opened()
        put(folder, FIRST)
        clock.now += 0.99
        put(folder, SECOND)
        assert named(store) == [FIRST]
        folder.settle()
        assert named(store) == [FIRST, SECOND]

    def test_or_by_the_next_one_a_second_later(self, opened, store, clock):
        """A second after the manifest was written, not after the partition that waits was done."""
        folder = opened()
        put(folder, FIRST)
        clock.now += 0.9
        put(folder, SECOND)
        clock.now += 0.1
        put(folder, THIRD)
        assert named(store) == [FIRST, SECOND, THIRD]

    def test_or_by_whatever_comes_next(self, opened, store, clock):
        """The next partition may be a month of calls: it is not waited for."""
        folder = opened()
        put(folder, FIRST)
        put(folder, SECOND)
        folder.alive()
        assert named(store) == [FIRST]
        clock.now += 1.0
        folder.alive()
        assert named(store) == [FIRST, SECOND]

    @pytest.mark.parametrize(("every", "written"), [(0.0, 3), (60.0, 2), (math.inf, 2)])
    def test_a_store_says_how_often(self, every, written, opened, store, files):
        """At once, or no sooner than it can."""
        store.rewrite_every = every
        folder = opened()
        files.done.clear()
        for name in (FIRST, SECOND, THIRD):
            put(folder, name)
        folder.settle()
        assert files.done.count(("write", MANIFEST)) == written
        assert named(store) == [FIRST, SECOND, THIRD]

    def test_to_settle_nothing_writes_nothing(self, opened, files, clock):
        """However long ago the last one was named."""
        folder = opened()
        put(folder, FIRST)
        files.done.clear()
        clock.now += 3600
        folder.settle()
        folder.settle()
        folder.alive()
        assert files.done == []

    def test_what_could_not_be_named_is_named_by_the_next_attempt(self, opened, store, files):
        """A disk that was full for a moment loses nothing."""
        folder = opened()
        files.refused = {MANIFEST}
        with pytest.raises(BackfillError, match="Input/output"):
            put(folder, FIRST)
        assert named(store) == []
        files.refused = ()
        folder.settle()
        assert named(store) == [FIRST]

    def test_what_was_not_named_is_swept_by_the_next_run(self, opened, store):
        """And read again; what was named is kept."""
        folder = opened()
        put(folder, FIRST)
        put(folder, SECOND)
        folder.close()  # as a process that is killed gives back its lock
        again = opened()
        assert list(again.manifest.entries) == [FIRST]
        assert [name for name in store.listing() if name.startswith("calls/")] == [file_of(FIRST, ".jsonl")]


class TestReplacing:
    def test_a_file_that_is_left_goes_after_the_manifest_that_does_not_name_it(
        self, opened, store, files, clock
    ):
        """Before, a killed process would leave a manifest that names what is gone."""
        folder = opened()
        put(folder, FIRST)
        put(folder, SECOND)
        folder.settle()
        files.done.clear()
        folder.reopen([SECOND])
        assert named(store) == [FIRST]
        put(folder, SECOND, b"")
        assert file_of(SECOND, ".jsonl") in store.listing()
        assert files.done == [("write", MANIFEST)]
        clock.now += 1.0
        folder.alive()
        assert files.done == [("write", MANIFEST), ("write", MANIFEST), ("remove", f"date={SECOND}")]
        assert file_of(SECOND, ".jsonl") not in store.listing()
        assert named(store) == [FIRST, SECOND]

    def test_a_file_that_comes_back_before_that_stays(self, opened, store):
        """What the manifest names is never removed, whatever was committed on the way."""
        folder = opened()
        put(folder, FIRST)
        folder.reopen([FIRST])
        put(folder, FIRST, b"")
        put(folder, FIRST, b"{ }\n")
        folder.settle()
        assert store.read(file_of(FIRST, ".jsonl")) == b"{ }\n"
        assert named(store) == [FIRST]

    def test_a_file_of_the_same_size_that_is_not_named_yet_is_not_taken_for_the_old_one(self, opened, store):
        """Its size says nothing, so its partition is open until the manifest names it: the next run reads it again."""
        folder = opened()
        put(folder, FIRST)
        put(folder, SECOND, b"{1}\n")
        folder.settle()
        folder.reopen([SECOND])
        put(folder, SECOND, b"{2}\n")
        folder.close()
        assert named(store) == [FIRST]
        again = opened()
        assert not again.manifest.entries[SECOND].sealed
        again.close()
        assert opened(repair=True).again == {SECOND}

    def test_what_could_not_be_opened_stays_sealed(self, opened, store, files):
        """A disk that was full for a moment: the next attempt writes it too, before any file is replaced."""
        folder = opened()
        put(folder, FIRST)
        files.refused = {MANIFEST}
        with pytest.raises(BackfillError):
            folder.reopen([FIRST])
        files.refused = ()
        assert named(store) == [FIRST]
        folder.reopen([FIRST])
        assert named(store) == []

    def test_what_is_open_already_is_not_written_as_open_again(self, opened, files):
        """Nor what is not there."""
        folder = opened()
        put(folder, FIRST, sealed=False)
        files.done.clear()
        folder.reopen([FIRST, SECOND])
        assert files.done == []


class Watching(Recording):
    """A file system that looks, after each change, whether what the manifest calls sealed is whole."""

    def __init__(self, root):
        super().__init__()
        self.store = LocalStorage(root, self)

    def rename(self, old, new):
        super().rename(old, new)
        self.look()

    def unlink(self, path):
        super().unlink(path)
        self.look()

    def look(self):
        data = self.store.read(MANIFEST)
        if data is None:
            return
        manifest = Manifest.load(data, JOB, START)
        assert not manifest.damage
        for entry in manifest.entries.values():
            if entry.sealed and entry.file:
                assert self.store.digest(entry.file) == entry.sha256


STEPS = st.one_of(
    st.tuples(
        st.just("replace"),
        st.lists(
            st.tuples(
                st.sampled_from([FIRST, SECOND, THIRD]), st.sampled_from([b"", b"{1}", b"{2}", b"{long}"])
            ),
            min_size=1,
            unique_by=itemgetter(0),  # as a run has them
        ),
    ),
    st.tuples(st.just("tick"), st.sampled_from([0.4, 1.0])),
    st.sampled_from([("alive",), ("settle",), ("killed",), ("repaired",)]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=12), st.sampled_from([0.0, 1.0, math.inf]))
def test_what_the_manifest_calls_sealed_is_whole_in_every_order_of_events(steps, every):
    """After each change of the disk; and what was settled is there after a kill, and nothing else is."""
    with tempfile.TemporaryDirectory() as root:
        now = 0.0
        store = Watching(Path(root)).store
        store.rewrite_every = every

        def begin(*, repair=False):
            folder = BackfillDirectory(store, JOB, clock=lambda: now)
            folder.open(START, START, repair=repair)
            return folder

        folder, there, settled = begin(), {}, {}
        for step, *what in steps:
            if step == "replace":
                folder.reopen([name for name, _ in what[0]])
                settled = {
                    name: text for name, text in settled.items() if name not in {name for name, _ in what[0]}
                }
                for name, text in what[0]:
                    put(folder, name, text)
                    there[name] = text
            elif step == "tick":
                now += what[0]
            elif step == "alive":
                folder.alive()
            elif step == "settle":
                folder.settle()
                settled = dict(there)
                assert named(store) == sorted(there)
                files = {name for name in store.listing() if name.startswith("calls/")}
                assert files == {file_of(name, ".jsonl") for name, text in there.items() if text}
            else:
                folder.close()
                folder = begin(repair=step == "repaired")
                sealed = {name: entry for name, entry in folder.manifest.entries.items() if entry.sealed}
                assert settled.keys() <= sealed.keys() <= there.keys()
                assert not folder.again & sealed.keys()
                for name, entry in sealed.items():
                    assert (store.read(entry.file) if entry.file else b"") == there[name]
                there = {name: there[name] for name in sealed}
                settled = dict(there)
                if len(sealed) < len(folder.manifest.entries):  # a run reads these before all else
                    for name in folder.manifest.entries.keys() - sealed:
                        put(folder, name, b"{}")
                        there[name] = b"{}"
        folder.close()


class TestTwoProcesses:
    """Where a lock is a lease, another process may take a folder over from one that was held up."""

    def take_over(self, remote, opened, clock):
        """The lease ends, and another process opens the folder and names a day of its own."""
        holder = json.loads(remote.read(".lock"))
        remote.fs.pipe_file(remote.path(".lock"), json.dumps(holder | {"at": holder["at"] - 3600}).encode())
        other = opened(remote)
        put(other, THIRD)
        return other

    @pytest.mark.parametrize("ended", [False, True], ids=["at work", "ended"])
    @pytest.mark.parametrize("act", ["settle", "commit", "alive", "reopen"])
    def test_what_was_taken_over_is_not_written(self, act, ended, remote, opened, clock):
        """The other one has swept what this one had not named: its manifest would name what is gone."""
        folder = opened(remote)
        put(folder, FIRST)
        put(folder, SECOND)
        other = self.take_over(remote, opened, clock)
        before = remote.read(MANIFEST)
        assert named(remote) == [FIRST, THIRD]
        if ended:
            other.close()
        if act in {"commit", "alive"}:
            clock.now += 1.0
        acts = {
            "settle": folder.settle,
            "commit": lambda: put(folder, SECOND),
            "alive": folder.alive,
            "reopen": lambda: folder.reopen([FIRST]),
        }
        with pytest.raises(BackfillLockedError):
            acts[act]()
        assert remote.read(MANIFEST) == before
        folder.close()
        assert (remote.read(".lock") is None) is ended  # which is still the other one's

    def test_a_lock_is_renewed_by_its_clock_and_looked_at_before_each_naming(self, remote, opened, clock):
        """And not for each page: a look costs a request."""
        folder = opened(remote)
        looks = Lease.looks
        for _ in range(100):
            folder.alive()
        assert Lease.looks == looks
        clock.now += 61
        folder.alive()
        folder.alive()
        assert Lease.looks == looks + 1
        put(folder, FIRST)
        put(folder, SECOND)
        assert Lease.looks == looks + 2

    def test_a_lock_is_kept_while_files_are_compared(self, remote, opened, clock, monkeypatch):
        """A large folder takes longer than a lease lasts."""
        folder = opened(remote)
        for name in (FIRST, SECOND, THIRD):
            put(folder, name)
        folder.settle()
        looks, digest = Lease.looks, remote.digest

        def slow(name):
            clock.now += 61
            return digest(name)

        monkeypatch.setattr(remote, "digest", slow)
        assert folder.damaged() == set()
        assert Lease.looks >= looks + 2
