"""A directory whose oldest days are deleted, that is moved or linked, or whose server is spelled otherwise, stays usable."""

import shutil
from datetime import datetime

import attrs
import httpx
import pytest
from support.backfill import LATER, QUERY, ids_in

from iovox_async import BackfillMismatchError, ManifestCorruptedError
from iovox_async.backfill import Backfill


def delete_days(out, *days):
    """Deletes the files of days of January, with their directories."""
    for day in days:
        shutil.rmtree(out / f"date=2024-01-{day:02}")


@pytest.mark.finding("D12")
class TestRetention:
    async def test_the_oldest_days_may_be_deleted(self, job, sandbox, out):
        """Given a backfill whose three oldest days are deleted, when it runs again, then they stay deleted."""
        await job().run()
        delete_days(out, 1, 2, 3)
        for _ in range(2):
            report = await job().run()
            assert (report.requests, report.total_calls) == (0, len(sandbox.ids("2024-01-04")))
            assert ids_in(out) == sandbox.ids("2024-01-04")
        report = await job().verify()
        assert (report.verified, report.mismatched_partitions) == (7, ())
        assert ids_in(out) == sandbox.ids("2024-01-04")

    async def test_a_directory_grows_at_its_end_while_its_start_is_deleted(self, job, sandbox, out):
        """Given a daily run whose oldest day is deleted each time, when it continues, then each day is read once."""
        for day in range(3, 11):
            now = datetime(2024, 1, day, 12)
            report = await job(now=now).run()
            assert report.partitions == (3 if day == 3 else 2)
            assert ids_in(out) == sandbox.ids(f"2024-01-{max(1, day - 2):02}", str(now))
            delete_days(out, day - 2)

    async def test_deleted_days_come_back_when_they_are_restored_or_repaired(
        self, job, sandbox, out, tmp_path
    ):
        """Given deleted days, when their files are put back, they count again; with repair=True the others are read."""
        await job().run()
        shutil.copytree(out, tmp_path / "backup")
        delete_days(out, 1, 2, 3)
        await job().run()
        shutil.copytree(tmp_path / "backup/date=2024-01-03", out / "date=2024-01-03")
        report = await job().run()
        assert (report.requests, report.total_calls) == (0, len(sandbox.ids("2024-01-03")))
        report = await job().run(repair=True)
        assert (report.partitions, report.total_calls) == (2, 300)
        assert ids_in(out) == sandbox.ids()

    @pytest.mark.parametrize("days", [(5,), (1, 3), (10,), tuple(range(1, 11))], ids=str)
    async def test_any_other_missing_file_is_damage(self, days, job, out):
        """Given a file that is missing after one that is there, or no file at all, when it runs again, then it raises."""
        await job().run()
        delete_days(out, *days)
        with pytest.raises(ManifestCorruptedError, match="missing"):
            await job().run()


@pytest.mark.finding("D12")
class TestLinksAndMoves:
    @pytest.mark.parametrize("link", ["", "date=2024-01-03"], ids=["root", "day"])
    async def test_a_directory_behind_a_symbolic_link_works_always(self, link, job, sandbox, out, tmp_path):
        """Given a directory or a day behind a link, when it runs several times, then it is intact each time."""
        await job(attrs.evolve(QUERY, end_date="2024-01-05")).run()
        target = tmp_path / "another disk"
        shutil.move(out / link, target)
        (out / link).symlink_to(target, target_is_directory=True)
        assert (await job().run()).partitions == 5
        assert (await job().run()).requests == 0
        assert (await job().verify()).mismatched_partitions == ()
        assert ids_in(out) == sandbox.ids()
        assert (out / link).is_symlink()
        if not link:
            assert (await job(directory=target).run()).requests == 0

    async def test_links_of_the_user_are_not_followed(self, job, out):
        """Given a link to a directory above, when the backfill runs, then it neither loops nor removes anything."""
        await job().run()
        (out / "up").symlink_to(out.parent, target_is_directory=True)
        (out / "nowhere").symlink_to(out / "missing")
        (out / "date=2024-01-01/nowhere").symlink_to(out / "missing")
        assert (await job().run()).requests == 0

    async def test_a_moved_directory_is_the_same_job(self, job, sandbox, out, tmp_path):
        """Given a directory that was moved, when the backfill runs at the new place, then nothing is read again."""
        await job().run()
        shutil.move(out, tmp_path / "moved")
        assert (await job(directory=tmp_path / "moved").run()).requests == 0
        assert ids_in(tmp_path / "moved") == sandbox.ids()


@pytest.mark.finding("D12")
@pytest.mark.parametrize(
    "base_url",
    [
        "http://localhost:8000/rest/v1",
        "http://127.0.0.1:8000/rest/v1/",
        "http://[::1]:9000/rest/v1",
        "https://REST.iovox.test:443/rest/v1",
    ],
)
async def test_the_address_of_the_server_is_not_part_of_the_job(base_url, job, sandbox, open_session, out):
    """Given a backfill, when the same account is reached by another address, then it is the same job; another user is not."""
    await job().run()
    transport = httpx.ASGITransport(sandbox.app)
    async with open_session(base_url, transport=transport) as insights:
        report = await Backfill._for_test(insights, QUERY, out, "jsonl", local_now=lambda: LATER).run()
        assert (report.requests, report.partitions_skipped) == (0, 10)
    async with open_session(base_url, transport=transport, username="other") as insights:
        with pytest.raises(BackfillMismatchError, match=r"account \(stored: demo, requested: other\)"):
            await Backfill(insights, QUERY, out, "jsonl").run()
