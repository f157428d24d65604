"""Storage of a backfill: files are complete or absent, on this machine and in object stores."""

import errno
import io
import sys

import fsspec
import pytest
from support.arrow_batches import batch

from iovox_async import BackfillError, MissingExtraError
from iovox_async.backfill._formats import ParquetWriter
from iovox_async.backfill._storage import open_storage, storage_errors
from iovox_async.backfill._storage_local import FileSystem, LocalStorage
from iovox_async.backfill._storage_remote import RemoteStorage

PATH = "date=2024-01-31/part-0.jsonl"


def write(storage, *blocks, path=PATH):
    with storage.create(path) as file:
        for block in blocks:
            file.write(block)
        file.commit()
    return file


class TestEveryStorage:
    @pytest.fixture(autouse=True)
    def _prepared(self, storage):
        storage.prepare()

    def test_a_file_appears_when_it_is_committed(self, storage):
        """Given a file that is written, it is not listed until commit, and then holds all bytes."""
        with storage.create(PATH) as file:
            file.write(b"one\n")
            file.write(b"two\n")
            assert PATH not in storage.list_files()
            file.commit()
        assert storage.read(PATH) == b"one\ntwo\n"
        assert storage.list_files() == {PATH: 8}
        assert (file.size, file.sha256) == (8, storage.sha256(PATH))

    def test_a_discarded_file_leaves_nothing(self, storage):
        """Given a file that is not committed, no file remains, and later writes are ignored."""
        with storage.create(PATH) as file:
            file.write(b"one\n")
        assert file.write(b"late") == 4
        assert storage.list_files() == {}
        assert storage.read(PATH) is None

    def test_a_file_is_replaced_as_a_whole(self, storage):
        """Given a file at the same path, a shorter one replaces all of its bytes."""
        write(storage, b"a long first version")
        write(storage, b"second")
        assert storage.read(PATH) == b"second"

    def test_removing_a_file_twice_is_harmless(self, storage):
        """Given a file that is gone already, remove does not raise."""
        write(storage)
        storage.remove(PATH)
        storage.remove(PATH)
        assert storage.list_files() == {}


class TestOpenStorage:
    def test_paths_are_local_and_urls_remote(self, tmp_path, monkeypatch):
        """Given a relative path or a Windows drive, the storage is local; given a URL, it is remote."""
        monkeypatch.chdir(tmp_path)
        assert open_storage("out").root == tmp_path / "out"
        assert isinstance(open_storage("C:/out"), LocalStorage)
        assert isinstance(open_storage("memory://out"), RemoteStorage)
        with pytest.raises(BackfillError, match="nosuch://"):
            open_storage("nosuch://bucket/out")

    def test_str_hides_the_credentials_of_a_url(self):
        """Given a URL with user and password, `str` shows neither."""
        assert str(RemoteStorage(None, "host/out", "sftp://user:secret@host/out")) == "sftp://host/out"

    def test_a_url_without_fsspec_raises_with_the_command_that_installs_it(self, monkeypatch):
        """Given no fsspec, the error names the extra and has the ImportError as its cause."""
        monkeypatch.setitem(sys.modules, "fsspec", None)
        with pytest.raises(MissingExtraError, match=r"iovox-async\[remote\]") as caught:
            open_storage("memory://out")
        assert isinstance(caught.value.__cause__, ImportError)


class TestFailures:
    @pytest.mark.fault(57)
    @pytest.mark.parametrize("method", ["create", "write", "sync", "make_directory", "rename"])
    def test_a_full_disk_raises_a_backfill_error(self, method, tmp_path):
        """Given a full disk at any change, the error names the file and the reason, and no temporary file remains."""
        file_system = FileSystem()

        def fail(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        setattr(file_system, method, fail)
        (tmp_path / "_iovox").mkdir()
        storage = LocalStorage(tmp_path, file_system)
        with pytest.raises(BackfillError, match=r"part-0\.jsonl: No space left.*run the same backfill again"):
            write(storage, b"x")
        assert PATH not in storage.list_files()
        assert not [path for path in storage.list_files() if path.endswith(".tmp")]

    def test_names_are_flushed_before_the_manifest_that_tells_of_them(self, tmp_path):
        """Given two committed files, each directory is flushed once, before the manifest; a failure is tried again."""
        calls = []

        class RecordingFileSystem(FileSystem):
            fails = True

            def sync_directory(self, path):
                calls.append(("sync", path.name))
                if self.fails:
                    self.fails = False
                    raise OSError(errno.EIO, "Input/output error")

            def rename(self, old, new):
                calls.append(("rename", new.name))
                super().rename(old, new)

        (tmp_path / "_iovox").mkdir()
        storage = LocalStorage(tmp_path, RecordingFileSystem())
        write(storage, b"x")
        write(storage, b"y")
        assert storage.unsynced == {tmp_path, (tmp_path / PATH).parent}
        with pytest.raises(BackfillError, match=r"_iovox/manifest: Input/output error"):
            write(storage, b"z", path="_iovox/manifest")
        calls.clear()
        write(storage, b"z", path="_iovox/manifest")
        before, after = calls[:2], calls[2:]
        assert sorted(before) == sorted([("sync", tmp_path.name), ("sync", (tmp_path / PATH).parent.name)])
        assert after == [("rename", "manifest"), ("sync", "_iovox")]

    def test_any_exception_of_a_store_raises_a_backfill_error(self, tmp_path):
        """Given a store that raises RuntimeError, the error is a BackfillError with the same reason."""

        class FailingStore(type(fsspec.filesystem("file"))):
            cachable = False

            def put_file(self, *_, **__):
                raise RuntimeError("the bucket is gone")

        storage = RemoteStorage(FailingStore(), str(tmp_path / "out"))
        with pytest.raises(BackfillError, match="the bucket is gone"):
            write(storage)
        assert storage.list_files() == {}

    def test_the_reason_of_a_store_is_one_line_without_signatures(self):
        """Given the message of a package with a URL, colours and a document, the error has its status, code and message."""
        message = (
            "Generic S3 error\n   \x1b[31m\u21b3\x1b[0m Error performing PUT https://me:pw@host/bucket/a?sig=SECRET&x=1 in 3ms"
            " - Server returned non-2xx status code: 403 Forbidden: <?xml version='1.0'?>\n<Error><Code>AccessDenied</Code>"
            "<Message>No.</Message><SignatureProvided>SECRET</SignatureProvided></Error>\n\nDebug source: SECRET"
        )
        with pytest.raises(BackfillError) as caught, storage_errors("write a", Exception):
            raise RuntimeError(message)
        assert str(caught.value).startswith(
            "cannot write a: Generic S3 error Error performing PUT host/bucket/a in 3ms - "
            "Server returned non-2xx status code: 403 Forbidden AccessDenied No. Finished"
        )
        assert "SECRET" not in str(caught.value)

    def test_a_directory_that_is_a_file_raises(self, tmp_path):
        """Given a file at the directory's path, prepare raises and says what it tried."""
        (tmp_path / "out").write_bytes(b"")
        with pytest.raises(BackfillError, match="cannot create the directory"):
            open_storage(tmp_path / "out").prepare()

    def test_a_parquet_writer_finished_after_discard_writes_nothing(self, tmp_path):
        """Given a writer whose file was discarded, the footer it still writes leaves no file."""
        storage = LocalStorage(tmp_path)
        with storage.create(PATH) as file:
            buffer = io.BufferedWriter(file)
            writer = ParquetWriter(buffer, ())
            writer.write(batch([1]))
            writer._flush()
        writer.finish()
        del writer, buffer
        assert storage.list_files() == {}


@pytest.mark.finding("C3")
@pytest.mark.parametrize(
    "message", ["no bucket {}", "{}: denied", 'Invalid bucket name "{}"', "x" * 195 + " {}"], ids=range(4)
)
def test_an_error_of_a_store_shows_no_credentials_of_the_url(message):
    """Given a URL with a key, when the store's error names the path, then the message has the path without the key."""
    root = "AKIA:pw/canary+1@bucket/calls"

    class Store:
        def makedirs(self, path, exist_ok):
            raise ValueError(message.format(path))

    with pytest.raises(BackfillError, match=r"s3://bucket/calls") as caught:
        RemoteStorage(Store(), root, f"s3://{root}").prepare()
    assert "canary" not in str(caught.value)
    assert "AKIA" not in str(caught.value)
