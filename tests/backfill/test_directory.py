"""The backfill directory: when the manifest is written, and in which order files are replaced and removed."""

import math
import tempfile
from operator import itemgetter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.backfill import FIRST, JOB, SECOND, START, THIRD, commit, final_partitions
from support.broken_disk import UnsyncedFileSystem
from support.model_server import examples

from iovox_async import BackfillError
from iovox_async.backfill._directory import MANIFEST_INTERVAL, BackfillDirectory
from iovox_async.backfill._manifest import MANIFEST, Manifest
from iovox_async.backfill._partitions import partition_path
from iovox_async.backfill._storage_local import LocalStorage


class RecordingFileSystem(UnsyncedFileSystem):
    """A file system that records renames and removals, and refuses to write the files named in `refused`."""

    def __init__(self):
        self.changes = []
        self.refused = ()

    def rename(self, old, new):
        if new.name in self.refused:
            raise OSError(5, "Input/output error")
        super().rename(old, new)
        self.changes.append(("write", new.name))

    def unlink(self, path):
        super().unlink(path)
        self.changes.append(("remove", path.parent.name))


@pytest.fixture
def disk():
    return RecordingFileSystem()


@pytest.fixture
def storage(tmp_path, disk):
    return LocalStorage(tmp_path, disk)


@pytest.fixture
def open_directory(storage, clock):
    """Returns a function that opens the directory; at the end of the test all are closed."""
    directories = []

    def open_directory(*, manifest_interval=MANIFEST_INTERVAL, **options):
        directory = BackfillDirectory(storage, JOB, clock=clock, manifest_interval=manifest_interval)
        directory.open(START, START, **options)
        directories.append(directory)
        return directory

    yield open_directory
    for directory in directories:
        directory.close()


class TestManifestInterval:
    def test_the_first_partition_is_written_at_once(self, open_directory, storage):
        """Given a new directory, the first commit writes the manifest."""
        commit(open_directory(), FIRST)
        assert final_partitions(storage) == [FIRST]

    def test_a_commit_within_the_interval_is_written_by_flush(self, open_directory, storage, clock):
        """Given a manifest written 0.99 s ago, a commit is not in it until `flush`."""
        directory = open_directory()
        commit(directory, FIRST)
        clock.now += 0.99
        commit(directory, SECOND)
        assert final_partitions(storage) == [FIRST]
        directory.flush()
        assert final_partitions(storage) == [FIRST, SECOND]

    def test_a_commit_after_the_interval_writes_all_partitions(self, open_directory, storage, clock):
        """Given a manifest written 1 s ago and a partition not in it, the next commit writes both."""
        directory = open_directory()
        commit(directory, FIRST)
        clock.now += 0.9
        commit(directory, SECOND)
        clock.now += 0.1
        commit(directory, THIRD)
        assert final_partitions(storage) == [FIRST, SECOND, THIRD]

    def test_a_heartbeat_after_the_interval_writes_all_partitions(self, open_directory, storage, clock):
        """Given a partition not in the manifest, a heartbeat writes it when the interval has passed."""
        directory = open_directory()
        commit(directory, FIRST)
        commit(directory, SECOND)
        directory.heartbeat()
        assert final_partitions(storage) == [FIRST]
        clock.now += 1.0
        directory.heartbeat()
        assert final_partitions(storage) == [FIRST, SECOND]

    @pytest.mark.parametrize(("interval", "writes"), [(0.0, 3), (60.0, 2), (math.inf, 2)])
    def test_the_interval_limits_how_often_the_manifest_is_written(
        self, interval, writes, open_directory, storage, disk
    ):
        """Given three commits and a flush, the manifest is written three times, or only at the first and the flush."""
        directory = open_directory(manifest_interval=interval)
        disk.changes.clear()
        for name in (FIRST, SECOND, THIRD):
            commit(directory, name)
        directory.flush()
        assert disk.changes.count(("write", "manifest")) == writes
        assert final_partitions(storage) == [FIRST, SECOND, THIRD]

    def test_an_unchanged_manifest_is_not_written_again(self, open_directory, disk, clock):
        """Given no commit since the manifest was written, flush and heartbeat change nothing."""
        directory = open_directory()
        commit(directory, FIRST)
        disk.changes.clear()
        clock.now += 3600
        directory.flush()
        directory.flush()
        directory.heartbeat()
        assert disk.changes == []

    def test_a_manifest_that_could_not_be_written_is_written_by_the_next_flush(
        self, open_directory, storage, disk
    ):
        """Given a disk that refuses the manifest once, the commit raises, and a flush writes the partition."""
        directory = open_directory()
        disk.refused = {"manifest"}
        with pytest.raises(BackfillError, match="Input/output"):
            commit(directory, FIRST)
        assert final_partitions(storage) == []
        disk.refused = ()
        directory.flush()
        assert final_partitions(storage) == [FIRST]

    def test_files_that_the_manifest_does_not_name_are_removed_by_the_next_run(self, open_directory, storage):
        """Given a process killed before it wrote the manifest, the next one removes the file it does not name."""
        directory = open_directory()
        commit(directory, FIRST)
        commit(directory, SECOND)
        directory.close()  # a killed process releases the lock too
        reopened = open_directory()
        assert list(reopened.manifest.entries) == [FIRST]
        paths = [path for path in storage.list_files() if path.startswith("date=")]
        assert paths == [partition_path(FIRST, ".jsonl")]


class TestReplacing:
    def test_an_obsolete_file_is_removed_after_the_manifest_is_written(
        self, open_directory, storage, disk, clock
    ):
        """Given a partition that lost its calls, its file is removed only when the manifest no longer names it."""
        directory = open_directory()
        commit(directory, FIRST)
        commit(directory, SECOND)
        directory.flush()
        disk.changes.clear()
        directory.mark_not_final([SECOND])
        assert final_partitions(storage) == [FIRST]
        commit(directory, SECOND, b"")
        assert partition_path(SECOND, ".jsonl") in storage.list_files()
        assert disk.changes == [("write", "manifest")]
        clock.now += 1.0
        directory.heartbeat()
        assert disk.changes == [("write", "manifest"), ("write", "manifest"), ("remove", f"date={SECOND}")]
        assert partition_path(SECOND, ".jsonl") not in storage.list_files()
        assert final_partitions(storage) == [FIRST, SECOND]

    def test_a_file_written_again_before_the_manifest_is_not_removed(self, open_directory, storage):
        """Given a partition that loses its calls and gets them back, its file stays."""
        directory = open_directory()
        commit(directory, FIRST)
        directory.mark_not_final([FIRST])
        commit(directory, FIRST, b"")
        commit(directory, FIRST, b"{ }\n")
        directory.flush()
        assert storage.read(partition_path(FIRST, ".jsonl")) == b"{ }\n"
        assert final_partitions(storage) == [FIRST]

    def test_a_replaced_file_of_the_same_size_is_read_again_after_a_crash(self, open_directory, storage):
        """Given a file replaced by one of the same size before a crash, its partition is not final, so it is read again."""
        directory = open_directory()
        commit(directory, FIRST)
        commit(directory, SECOND, b"{1}\n")
        directory.flush()
        directory.mark_not_final([SECOND])
        commit(directory, SECOND, b"{2}\n")
        directory.close()
        assert final_partitions(storage) == [FIRST]
        reopened = open_directory()
        assert not reopened.manifest.entries[SECOND].final
        reopened.close()
        assert open_directory(repair=True).damaged.keys() == {SECOND}

    def test_a_failed_mark_not_final_leaves_the_partition_final(self, open_directory, storage, disk):
        """Given a disk that refuses the manifest once, the partition stays final, and the next attempt marks it."""
        directory = open_directory()
        commit(directory, FIRST)
        disk.refused = {"manifest"}
        with pytest.raises(BackfillError):
            directory.mark_not_final([FIRST])
        disk.refused = ()
        assert final_partitions(storage) == [FIRST]
        directory.mark_not_final([FIRST])
        assert final_partitions(storage) == []

    def test_mark_not_final_writes_nothing_where_nothing_is_final(self, open_directory, disk):
        """Given partitions that are open or unknown, mark_not_final does not write the manifest."""
        directory = open_directory()
        commit(directory, FIRST, final=False)
        disk.changes.clear()
        directory.mark_not_final([FIRST, SECOND])
        assert disk.changes == []


class CheckingFileSystem(RecordingFileSystem):
    """A file system that checks, after each change, that the files of final partitions match the manifest."""

    def __init__(self, root):
        super().__init__()
        self.storage = LocalStorage(root, self)

    def rename(self, old, new):
        super().rename(old, new)
        self.check()

    def unlink(self, path):
        super().unlink(path)
        self.check()

    def check(self):
        data = self.storage.read(MANIFEST)
        if data is None:
            return
        manifest = Manifest.load(data, JOB, START)
        assert not manifest.damage
        for entry in manifest.entries.values():
            if entry.final and entry.file:
                assert self.storage.sha256(entry.file) == entry.sha256


NAMES = st.sampled_from([FIRST, SECOND, THIRD])
FILES = st.sampled_from([b"", b"{1}", b"{2}", b"{long}"])
STEPS = st.one_of(
    # As in a run, each partition is replaced at most once.
    st.tuples(st.just("replace"), st.lists(st.tuples(NAMES, FILES), min_size=1, unique_by=itemgetter(0))),
    st.tuples(st.just("wait"), st.sampled_from([0.4, 1.0])),
    st.sampled_from([("heartbeat",), ("flush",), ("crash",), ("crash and repair",)]),
)


@examples(240)
@given(st.lists(STEPS, max_size=12), st.sampled_from([0.0, 1.0, math.inf]))
def test_final_partitions_are_intact_in_every_order_of_events(steps, interval):
    """Given any order of events, files match the manifest after each change, and flushed partitions survive a crash."""
    with tempfile.TemporaryDirectory() as root:
        now = 0.0
        storage = CheckingFileSystem(Path(root)).storage

        def open_directory(*, repair=False):
            directory = BackfillDirectory(storage, JOB, clock=lambda: now, manifest_interval=interval)
            directory.open(START, START, repair=repair)
            return directory

        directory, committed, flushed = open_directory(), {}, {}
        for step, *arguments in steps:
            if step == "replace":
                files = dict(arguments[0])
                directory.mark_not_final(files)
                flushed = {name: data for name, data in flushed.items() if name not in files}
                for name, data in files.items():
                    commit(directory, name, data)
                committed.update(files)
            elif step == "wait":
                now += arguments[0]
            elif step == "heartbeat":
                directory.heartbeat()
            elif step == "flush":
                directory.flush()
                flushed = dict(committed)
                assert final_partitions(storage) == sorted(committed)
                paths = {path for path in storage.list_files() if path.startswith("date=")}
                assert paths == {partition_path(name, ".jsonl") for name, data in committed.items() if data}
            else:
                directory.close()
                directory = open_directory(repair=step == "crash and repair")
                final = {name: entry for name, entry in directory.manifest.entries.items() if entry.final}
                assert flushed.keys() <= final.keys() <= committed.keys()
                assert not directory.damaged.keys() & final.keys()
                for name, entry in final.items():
                    assert (storage.read(entry.file) if entry.file else b"") == committed[name]
                committed = {name: committed[name] for name in final}
                flushed = dict(committed)
                # A run reads partitions that are not final before all others.
                for name in sorted(directory.manifest.entries.keys() - final):
                    commit(directory, name, b"{}")
                    committed[name] = b"{}"
        directory.close()
