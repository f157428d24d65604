"""One backfill per directory: other jobs and processes are refused, damage is raised, `repair` reads what it covers."""

import re

import anyio
import attrs
import httpx
import pytest
from support.backfill import JOB, QUERY, START, change_line, flip_bit, ids_in, truncate

from iovox_async import (
    BackfillError,
    BackfillLockedError,
    BackfillMismatchError,
    Fields,
    ManifestCorruptedError,
    ServerError,
)
from iovox_async.backfill import Backfill, _manifest
from iovox_async.backfill._locks import DirectoryLock
from iovox_async.sandbox import Faults

ANSWERED = attrs.evolve(QUERY, call_result="ANSWERED")


class TestOtherJobs:
    @pytest.mark.fault(59)
    @pytest.mark.parametrize(
        ("options", "difference"),
        [
            ({"query": attrs.evolve(QUERY, call_result="MISSED")}, "filter call_result: another value"),
            (
                {"query": attrs.evolve(QUERY, direction="IN")},
                "filter only stored: call_result, filter only requested: direction",
            ),
            (
                {"query": attrs.evolve(ANSWERED, fields="id,call_start,tag_text")},
                r"fields \(only stored: call_end, call_origin, iovox_number and 6 more; only requested: tag_text\)",
            ),
            (
                {"query": attrs.evolve(ANSWERED, fields=Fields.ALL)},
                r"fields \(only requested: call_origin_location, call_time, call_time_seconds and 42 more\)",
            ),
            ({"format": "csv"}, r"format \(stored: jsonl, requested: csv\)"),
            ({"partition": "month"}, r"partition \(stored: day, requested: month\)"),
        ],
        ids=["value", "filter", "fields", "many fields", "format", "partition"],
    )
    async def test_another_job_raises_and_names_what_differs(self, job, options, difference, out):
        """Given the directory of one job, a run of another raises and changes nothing, even with repair=True."""
        await job(ANSWERED).run()
        ids = ids_in(out)
        with pytest.raises(BackfillMismatchError, match=difference):
            await job(**{"query": ANSWERED, **options}).run(repair=True)
        assert ids_in(out) == ids

    async def test_a_run_that_failed_before_any_partition_does_not_claim_the_directory(
        self, job, sandbox, out
    ):
        """Given a manifest without partitions, another job may start; a partition without calls is enough to claim it."""
        sandbox.faults = Faults(fail_after=0)
        with pytest.raises(ServerError):
            await job(format="csv", partition="month").run()
        sandbox.faults = Faults()
        await job(attrs.evolve(QUERY, start_date="2023-12-30", end_date="2023-12-31")).run()
        with pytest.raises(
            BackfillMismatchError, match=rf"{re.escape(str(out))} belongs to another backfill.*format"
        ):
            await job(format="csv").run()
        await job().run()
        assert ids_in(out) == sandbox.ids()

    async def test_another_account_raises(self, job, sandbox, open_session, out):
        """Given the directory of account "demo", a backfill of account "other" raises and names both."""
        await job().run()
        async with open_session(username="other", transport=httpx.ASGITransport(sandbox.app)) as insights:
            with pytest.raises(BackfillMismatchError, match=r"stored: demo, requested: other"):
                await Backfill(insights, QUERY, out, "jsonl").run()

    async def test_filter_values_are_neither_stored_nor_shown(self, job, out):
        """Given a filter on a phone number, neither the manifest nor the error contains the number."""
        await job(attrs.evolve(QUERY, call_origin="447966111222")).run()
        with pytest.raises(BackfillMismatchError) as caught:
            await job(attrs.evolve(QUERY, call_origin="447966111333")).run()
        assert "447966" not in (out / "_iovox/manifest").read_text() + str(caught.value)

    @pytest.mark.fault(59)
    @pytest.mark.parametrize(
        ("version", "message"),
        [
            (99, r"a newer version .* pip install --upgrade"),
            (1, "an older version .* Choose another directory"),
        ],
    )
    async def test_the_manifest_of_another_version_raises_with_a_hint(self, version, message, job, out):
        """Given a manifest in a newer or older format, even repair=True raises, and the hint says what to do."""
        await job().run()
        path = out / "_iovox/manifest"
        lines = path.read_bytes().split(b"\n")
        lines[0] = _manifest._encode_line(_manifest._Header(backfill=version, job=JOB, start=START))
        path.write_bytes(b"\n".join(lines))
        with pytest.raises(BackfillError, match=message):
            await job().run(repair=True)


class TestLock:
    async def test_a_backfill_that_is_running_raises_when_started_again(self, job, sandbox, out):
        """Given a backfill that is running, its second run raises and leaves the counters of the first alone."""
        backfill = job()
        async with anyio.create_task_group() as group:
            group.start_soon(backfill.run)
            await anyio.lowlevel.checkpoint()
            with pytest.raises(BackfillLockedError, match="running already"):
                await backfill.verify()
        assert backfill.progress.partitions == 10
        assert (await backfill.verify()).verified == 10
        assert ids_in(out) == sandbox.ids()

    @pytest.mark.fault(58)
    async def test_a_locked_directory_raises_until_the_lock_is_released(self, job, out):
        """Given a directory locked by another process, run and verify raise; both release their own locks."""
        await job().run()
        lock = DirectoryLock(out)
        lock.acquire()
        with pytest.raises(BackfillLockedError):
            await job().run()
        with pytest.raises(BackfillLockedError):
            await job().verify()
        lock.release()
        await job().run()


#: What is damaged, the message of the error, and how many partitions the repair may read.
DAMAGES = {
    "first line of the manifest": (lambda out: change_line(out / "_iovox/manifest", 0), "line 1", 0),
    "another line of the manifest": (lambda out: change_line(out / "_iovox/manifest", 3), "line 4", 1),
    "truncated manifest": (lambda out: truncate(out / "_iovox/manifest"), "manifest is damaged", 6),
    "empty manifest": (lambda out: (out / "_iovox/manifest").write_bytes(b""), "line 1", 10),
    "no manifest": (
        lambda out: (out / "_iovox/manifest").unlink(),
        "holds date=2024-01-01/.* but no",
        10,
    ),
    "truncated file": (
        lambda out: truncate(out / "date=2024-01-04/part-0.jsonl"),
        "date=2024-01-04.*bytes instead of",
        1,
    ),
    "missing file": (
        lambda out: (out / "date=2024-01-05/part-0.jsonl").unlink(),
        "date=2024-01-05.*missing",
        1,
    ),
    "flipped bit in a file": (lambda out: flip_bit(out / "date=2024-01-06/part-0.jsonl"), None, 1),
}


class TestDamage:
    @pytest.mark.fault(59)
    @pytest.mark.parametrize("damage", DAMAGES)
    async def test_damage_raises_and_repair_reads_only_what_it_covers(self, damage, job, sandbox, out):
        """Given damage, a run raises and names it; with repair=True it reads only the partitions concerned again."""
        do_damage, message, max_partitions = DAMAGES[damage]
        await job().run()
        do_damage(out)
        if message is not None:
            with pytest.raises(ManifestCorruptedError, match=f"{message}.*repair=True"):
                await job().run()
        report = await job().run(repair=True)
        assert report.partitions <= max_partitions
        assert report.partitions + report.partitions_skipped == 10
        assert ids_in(out) == sandbox.ids()
        assert (await job().run(repair=True)).requests == 0

    async def test_repair_reads_damaged_files_outside_of_the_range_too(self, job, sandbox, out):
        """Given a damaged file on 6 January, a repair of 1 and 2 January reads it again."""
        await job().run()
        flip_bit(out / "date=2024-01-06/part-0.jsonl")
        report = await job(attrs.evolve(QUERY, end_date="2024-01-02")).run(repair=True)
        assert (report.partitions, report.partitions_skipped) == (1, 2)
        assert ids_in(out) == sandbox.ids()

    async def test_a_directory_in_the_layout_of_0_1_is_refused(self, job, out):
        """Given a manifest beside the data, a run raises and says what to do, also with repair=True."""
        out.mkdir()
        (out / "manifest.jsonl").write_text("{}")
        for repair in (False, True):
            with pytest.raises(BackfillError, match=r"version 0\.1.*Choose another directory"):
                await job().run(repair=repair)

    async def test_only_files_that_a_backfill_names_are_removed(self, job, out):
        """Given leftovers of an earlier run and the user's own files, a run removes only the leftovers."""
        own = [out / "notes.txt", out / "_iovox/notes.tmp", out / "date=2024-01-01/other.jsonl"]
        for path in own:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
        await job().run()
        leftovers = [out / "date=2019-01-01/part-0.jsonl", out / "_iovox/manifest.tmp"]
        for path in leftovers:
            path.parent.mkdir(exist_ok=True)
            path.write_text("{}")
        await job().run()
        assert all(path.exists() for path in own)
        assert not any(path.exists() for path in leftovers)
        assert not leftovers[0].parent.exists()
