"""`Backfill.verify`, and backfills into object stores."""

import json
from datetime import datetime
from importlib.metadata import version

import attrs
import fsspec
import pytest
from support.backfill import QUERY, flip_bit, ids_in

from iovox_async import BackfillLockedError, BackfillMismatchError, Fields, ManifestCorruptedError
from iovox_async.backfill._formats import TextWriter
from iovox_async.backfill._locks import LeaseLock
from iovox_async.backfill._storage_remote import RemoteStorage


@pytest.fixture
def take_over(monkeypatch, tmp_path):
    """Makes the leases of `file://` directories expire at once, and returns a function that takes over that of `out`."""
    monkeypatch.setattr(
        RemoteStorage, "lock", lambda self: LeaseLock(self.fs, self.full_path("_iovox/lock"), duration=0.0)
    )
    return lambda: LeaseLock(
        fsspec.filesystem("file"), str(tmp_path / "out/_iovox/lock"), duration=0.0
    ).acquire()


class TestVerify:
    @pytest.mark.usefixtures("own_sandbox")
    async def test_partitions_that_differ_are_reported_and_read_again(self, job, sandbox, out):
        """Given a late call, a deleted call and a damaged file, verify reads these three days again, and only these."""
        await job().run()
        (late,) = sandbox.add([{"call_start": "2024-01-02 10:00:00"}])
        sandbox.remove(sandbox.ids("2024-01-05", "2024-01-05")[:1])
        flip_bit(out / "date=2024-01-08/part-0.jsonl")
        sandbox.reset_stats()
        report = await job().verify()
        assert report.mismatched_partitions == ("2024-01-02", "2024-01-05", "2024-01-08")
        assert (report.verified, report.partitions, report.total_calls) == (10, 3, 300)
        assert late in ids_in(out)
        assert ids_in(out) == sandbox.ids()
        report = await job().verify()
        assert (report.verified, report.mismatched_partitions, report.partitions) == (10, (), 0)

    @pytest.mark.usefixtures("own_sandbox")
    @pytest.mark.parametrize("name", ["parquet", "jsonl", "jsonl.zst", "csv"])
    async def test_certificates_say_what_was_read_and_what_differs(self, name, job, sandbox, out):
        """Given each format and each kind of difference, verify says which day differs and why; again, nothing does."""
        await job(format=name).run()
        ids = {day: sandbox.ids(f"2024-01-{day:02}", f"2024-01-{day:02}") for day in range(1, 11)}
        sandbox.add([{"call_start": "2024-01-02 10:00:00"}, {"call_start": "2024-01-03 10:00:00"}])
        sandbox.remove([ids[3][0], ids[5][0]])
        flip_bit(out / f"date=2024-01-08/part-0.{name}")
        (out / f"date=2024-01-09/part-0.{name}").unlink()
        report = await job(format=name).verify()
        first = report.certificates[0]
        assert (first.partition, first.calls, first.skipped) == ("2024-01-01", len(ids[1]), 0)
        assert (first.first_id, first.last_id, first.problem) == (min(ids[1]), max(ids[1]), "")
        assert first.version == version("iovox-async")
        assert first.read_at is not None
        assert {one.partition[-2:]: one.problem for one in report.certificates if one.problem} == {
            "02": f"the endpoint has {len(ids[2]) + 1} calls, {len(ids[2])} were read",
            "03": "the endpoint has other calls than were read, the same number",
            "05": f"the endpoint has {len(ids[5]) - 1} calls, {len(ids[5])} were read",
            "08": "the file is damaged (another checksum)",
            "09": "the file is missing",
        }
        report = await job(format=name).verify()
        assert [one.partition for one in report.certificates if one.problem] == []
        assert sum(one.calls for one in report.certificates) == 300

    async def test_a_file_that_does_not_hold_what_was_read_is_reported(self, job, out, monkeypatch):
        """Given a file whose writer lost a call, when verified, then the certificate shows it although bytes are intact."""
        write = TextWriter.write
        with monkeypatch.context() as patched:
            patched.setattr(TextWriter, "write", lambda writer, data: write(writer, data[1:]))
            await job(attrs.evolve(QUERY, end_date="2024-01-01")).run()
        report = await job().verify()
        assert [one.problem[:14] for one in report.certificates] == ["the file holds"]
        assert (await job().verify()).mismatched_partitions == ()

    async def test_verify_receives_a_tenth_of_the_bytes_of_run(self, job):
        """Given all fields, verify requests two of them."""
        query = attrs.evolve(QUERY, fields=Fields.ALL)
        report = await job(query).run()
        assert (await job(query).verify()).bytes_received < 0.1 * report.bytes_received

    async def test_only_final_partitions_of_the_range_are_compared(self, job):
        """Given nine final days and an open one, verify compares the nine, or those of a smaller range."""
        now = datetime(2024, 1, 10, 12)
        await job(now=now).run()
        assert (await job(now=now).verify()).verified == 9
        query = attrs.evolve(QUERY, start_date="2024-01-02", end_date="2024-01-03")
        assert (await job(query).verify()).verified == 2

    async def test_a_damaged_file_outside_of_the_range_is_read_again(self, job, sandbox, out):
        """Given a damaged file on 8 January, verify of 2 and 3 January reports it and reads it again."""
        await job().run()
        flip_bit(out / "date=2024-01-08/part-0.jsonl")
        query = attrs.evolve(QUERY, start_date="2024-01-02", end_date="2024-01-03")
        report = await job(query).verify()
        assert (report.verified, report.partitions, report.mismatched_partitions) == (2, 1, ("2024-01-08",))
        assert ids_in(out) == sandbox.ids()

    async def test_verify_raises_without_a_manifest_and_removes_nothing(self, job, out):
        """Given partition files without a manifest, verify raises and leaves the files for a repair."""
        await job().run()
        (out / "_iovox/manifest").unlink()
        files = sorted(out.rglob("*.jsonl"))
        with pytest.raises(ManifestCorruptedError, match="no _iovox/manifest"):
            await job().verify()
        assert sorted(out.rglob("*.jsonl")) == files

    async def test_a_lock_taken_over_during_verify_raises(self, job, sandbox, take_over, tmp_path):
        """Given another process that takes the directory over while ids are compared, verify raises."""
        url = f"file://{tmp_path}/out"
        await job(directory=url).run()
        sandbox.reset_stats()

        def take_over_once_reading(_):
            if sandbox.stats.requests:
                take_over()

        with pytest.raises(BackfillLockedError):
            await job(directory=url, on_progress=take_over_once_reading).verify()


class TestObjectStores:
    @pytest.mark.parametrize("scheme", ["memory", "file"])
    async def test_an_object_store_keeps_the_same_promises(self, scheme, job, sandbox, tmp_path):
        """Given a URL, a backfill resumes, replaces open days, raises on damage, repairs and verifies."""
        fsspec.filesystem("memory").store.clear()
        url = f"file://{tmp_path}/out" if scheme == "file" else "memory://bucket/out"
        fs, root = fsspec.core.url_to_fs(url)

        def stored_ids():
            fs.invalidate_cache()
            return [
                json.loads(line)["id"]
                for path in sorted(fs.glob(f"{root}/*/*.jsonl"))
                for line in fs.cat(path).splitlines()
            ]

        await job(directory=url, now=datetime(2024, 1, 10, 12)).run()
        assert stored_ids() == sandbox.ids(end="2024-01-10 12:00")
        report = await job(directory=url).run()
        assert (report.partitions, report.partitions_skipped) == (1, 9)
        assert stored_ids() == sandbox.ids()
        assert (await job(directory=url).run()).requests == 0
        fs.pipe(f"{root}/date=2024-01-02/part-0.jsonl", b"{}")
        with pytest.raises(ManifestCorruptedError, match="date=2024-01-02"):
            await job(directory=url).run()
        assert (await job(directory=url).run(repair=True)).partitions == 1
        assert (await job(directory=url).verify()).mismatched_partitions == ()
        assert stored_ids() == sandbox.ids()
        assert not fs.exists(f"{root}/_iovox/lock")
        with pytest.raises(BackfillMismatchError):
            await job(directory=url, format="csv").run()

    async def test_a_lock_taken_over_during_run_raises(self, job, take_over, tmp_path):
        """Given another process that takes the directory over, the run raises and writes no more."""

        def take_over_after_a_partition(progress):
            if progress.partitions:
                take_over()

        with pytest.raises(BackfillLockedError):
            await job(directory=f"file://{tmp_path}/out", on_progress=take_over_after_a_partition).run()
