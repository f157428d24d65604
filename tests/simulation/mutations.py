"""Lists mistakes that the simulation must find when they are planted in the package.

Each mistake is a change of the source of one module: every `old` text stands there exactly once and is replaced by `new`.
`planting` applies one of them in a fresh process. A mistake that is not found is a hole in the simulation, to be mended there.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MUTATIONS", "Mutation"]


@dataclass(frozen=True)
class Mutation:
    """A planted mistake.

    Attributes:
        name: its name.
        what: what it does wrong, in plain words.
        module: where it is planted.
        edits: texts of the module, and what replaces them.
    """

    name: str
    what: str
    module: str
    edits: tuple[tuple[str, str], ...]


_PAGING, _FETCHING, _HTTP = "iovox_async._paging", "iovox_async._fetching", "iovox_async._http"

_ALL = (
    Mutation(
        "window-end-twice",
        "A window delivers the second after its end too, which the next window delivers again.",
        f"{_PAGING}.windows",
        (
            (
                "            self._queue.replace(index, [self._done(page, window.start, window.stop)])\n            return\n        if unreadable",
                "            self._queue.replace(index, [self._done(page, window.start, window.stop + SECOND)])\n            return\n        if unreadable",
            ),
        ),
    ),
    Mutation(
        "window-start-twice",
        "A window delivers the second before its start too, which the window before has delivered.",
        f"{_PAGING}.windows",
        (
            (
                "            self._queue.replace(index, [self._done(page, window.start, window.stop)])\n            return\n        if unreadable",
                "            self._queue.replace(index, [self._done(page, window.start - SECOND, window.stop)])\n            return\n        if unreadable",
            ),
        ),
    ),
    Mutation(
        "cut-second-kept",
        "The second in which a full page stopped is delivered although it may be cut, and requested again.",
        f"{_PAGING}.window",
        (
            (
                "            limit = min(window.stop, max(window.start, self.last[0]))\n            self.complete, self.rest = (window.start, limit), (limit, window.stop)\n",
                "            limit = min(window.stop, max(window.start, self.last[0]))\n            self.complete, self.rest = (window.start, limit + SECOND), (limit, window.stop)\n",
            ),
        ),
    ),
    Mutation(
        "cut-second-skipped",
        "The second in which a full page stopped is not requested again.",
        f"{_PAGING}.truncated",
        (
            (
                "        return [Window(*page.rest, rows_seen_before=page.rows_of_rest())]\n",
                "        return [Window(page.rest[0] + type(page.rest[1] - page.rest[0])(seconds=1), page.rest[1])]\n",
            ),
        ),
    ),
    Mutation(
        "proof-by-limit",
        "A page that is shorter than requested counts as the last, although the server may cap its pages.",
        f"{_PAGING}.types",
        (
            (
                "        return rows == 0 or rows < min(self.limit, self.largest_page)\n",
                "        return rows < self.limit\n",
            ),
        ),
    ),
    Mutation(
        "gap-between-windows",
        "The second between two windows belongs to neither.",
        f"{_PAGING}.window",
        (
            (
                "        parts = [Window(self.start, middle), Window(middle, self.stop)]\n",
                "        parts = [Window(self.start, middle), Window(middle + SECOND, self.stop)]\n",
            ),
        ),
    ),
    Mutation(
        "latest-first-cut",
        "Latest first, the second in which a page stopped is delivered although it may be cut.",
        f"{_PAGING}.window",
        (
            (
                "            limit = min(window.stop, max(window.start, self.last[1]))\n            self.complete, self.rest = (limit, window.stop), (window.start, limit)\n",
                "            limit = min(window.stop, max(window.start, self.last[0]))\n            self.complete, self.rest = (limit, window.stop), (window.start, limit)\n",
            ),
        ),
    ),
    Mutation(
        "claims-believed",
        "A page that claims the end of its window is believed without evidence.",
        f"{_PAGING}.windows",
        (
            (
                "            accepted = not self._is_doubtful(page, own_starts)\n",
                "            accepted = True\n",
            ),
        ),
    ),
    Mutation(
        "check-always-agrees",
        "A check agrees with the page that it checks, whatever it found.",
        f"{_PAGING}.windows",
        (
            (
                "        if len(gap) > in_second or in_second != claim.in_second:\n",
                "        if False:\n",
            ),
        ),
    ),
    Mutation(
        "first-page-trusted",
        "An empty first page is believed at once.",
        f"{_PAGING}.evidence",
        (
            (
                "        if not rows and not self._rows:\n            return True\n",
                "        if not rows and not self._rows:\n            return False\n",
            ),
        ),
    ),
    Mutation(
        "start-not-included",
        "A request does not include the second before its window, so an exclusive start loses calls.",
        f"{_PAGING}.window",
        (
            (
                "    start = hours.bound_before(second_before(hours.bound_before(start)))\n",
                "    start = hours.bound_before(start)\n",
            ),
        ),
    ),
    Mutation(
        "repeated-hour-cut",
        "An hour that occurs twice or never is cut into windows like any other.",
        "iovox_async._params.account_time",
        (
            (
                "        changes = clock_changes(start, stop, timezone)\n",
                "        changes = clock_changes(start, start, timezone)[:0]\n",
            ),
        ),
    ),
    Mutation(
        "cache-allowed",
        "Requests do not ask caches for a fresh response.",
        f"{_HTTP}.transport",
        (
            (
                '    (b"cache-control", b"no-cache"),\n',
                "",
            ),
        ),
    ),
    Mutation(
        "check-equals-claim",
        "The check of a page may be the same request, which a cache answers with the same page.",
        f"{_PAGING}.evidence",
        (
            (
                "        used = self._wrong_requests if claim is None else {*self._wrong_requests, claim.bounds}\n",
                "        used = self._wrong_requests\n",
            ),
        ),
    ),
    Mutation(
        "second-proved-by-last-page",
        "A second counts as whole when page 2 adds nothing, whatever has become of page 1 meanwhile.",
        f"{_PAGING}.single_second",
        (
            (
                "confirmed = self._step is SingleSecondReader._first_page_again and self._first_page <= Counter(ids)",
                "confirmed = self._step is SingleSecondReader._first_page_again",
            ),
        ),
    ),
    Mutation(
        "one-pass-enough",
        "One pass over the pages of a second is trusted without a second one that agrees.",
        f"{_PAGING}.single_second",
        (
            (
                "        if counts and self._agrees_with_earlier_passes():\n",
                "        if counts:\n",
            ),
        ),
    ),
    Mutation(
        "pages-of-a-second-kept",
        "The pages of a second stay in memory after they are delivered, in a reference cycle.",
        f"{_PAGING}.single_second",
        (
            (
                "        return self._step(self)\n",
                "        self._again = self.next_request\n        return self._step(self)\n",
            ),
        ),
    ),
    Mutation(
        "failure-keeps-page",
        "After a retry, the failure before it refers to its request and to the page that the retry received.",
        f"{_HTTP}.throttle",
        (
            (
                "                self.last_failure = None\n                return result\n",
                "                return result\n",
            ),
        ),
    ),
    Mutation(
        "early-page-kept",
        "A stream that is left keeps the full page that was requested along with the small one.",
        f"{_PAGING}.windows",
        (
            (
                "        self._early_page.drop()\n        self._queue.discard_rows()\n",
                "        self._queue.discard_rows()\n",
            ),
        ),
    ),
    Mutation(
        "pages-twice",
        "Calls that come on two pages are delivered twice.",
        f"{_PAGING}.pages",
        (
            (
                " and ids[row] not in self._delivered_ids]",
                "]",
            ),
        ),
    ),
    Mutation(
        "pages-end-trusted",
        "Read by page numbers, the first page that claims to be the last is believed.",
        f"{_PAGING}.pages",
        (
            (
                "        elif claimed_rows == rows:\n",
                "        else:\n",
            ),
        ),
    ),
    Mutation(
        "ties-unsorted",
        "Calls of one second come in the order of the response, which a position cannot describe.",
        f"{_PAGING}.order",
        (
            (
                "        ids = sorted(by_id, reverse=self.descending)\n",
                "        ids = list(by_id)\n",
            ),
        ),
    ),
    Mutation(
        "duplicates-delivered",
        "A call that a response lists twice is delivered twice.",
        f"{_PAGING}.order",
        (
            (
                "                by_id[call_id] = item\n        duplicates",
                "                by_id[call_id * 2 + (call_id * 2 in by_id)] = item\n        duplicates",
            ),
            (
                "            ids = [call_id for call_id in ids if (call_id < last",
                "            last *= 2\n            ids = [call_id for call_id in ids if (call_id < last",
            ),
        ),
    ),
    Mutation(
        "resume-repeats",
        "A stream that is resumed delivers the last call of the earlier one again.",
        f"{_PAGING}.order",
        (
            (
                "(call_id < last if self.descending else call_id > last)",
                "(call_id <= last if self.descending else call_id >= last)",
            ),
        ),
    ),
    Mutation(
        "resume-skips",
        "A stream that is resumed skips the rest of the second in which the earlier one stopped.",
        f"{_PAGING}.spec",
        (
            (
                "if descending else (cursor.second, stop)",
                "if descending else (cursor.second + SECOND, stop)",
            ),
        ),
    ),
    Mutation(
        "quiet-error",
        "A stream whose request failed for good ends without an error.",
        f"{_FETCHING}.fetcher",
        (
            (
                "                await self.stop()\n                raise self._error\n",
                "                await self.stop()\n                return None\n",
            ),
        ),
    ),
    Mutation(
        "quiet-close",
        "A stream whose session is closed while it is read ends as if all had come.",
        f"{_FETCHING}.fetcher",
        (
            (
                "                if not self.plan.done:\n                    closed",
                "                if False:\n                    closed",
            ),
        ),
    ),
    Mutation(
        "quiet-close-between-steps",
        "A stream that another task closed between two steps ends as if all had come.",
        f"{_FETCHING}.reader",
        (
            (
                "        if self.closed and self.finished:\n            return None\n",
                "        if self.closed:\n            return None\n",
            ),
        ),
    ),
    Mutation(
        "cancelled-step-closes",
        "A step that is cancelled closes the stream.",
        f"{_FETCHING}.reader",
        (
            (
                "            item = await next_item()\n        except Exception as error:\n",
                "            item = await next_item()\n        except BaseException as error:\n",
            ),
        ),
    ),
    Mutation(
        "slot-early",
        "A slot is given back before its request is sent.",
        f"{_FETCHING}.fetcher",
        (
            (
                "        try:\n            await self._fetch_page(request)\n",
                "        self._throttle.release(holder)\n        try:\n            await self._fetch_page(request)\n",
            ),
            (
                "        finally:\n            self._throttle.release(holder)\n            self._may_request.set()\n",
                "        finally:\n            self._may_request.set()\n",
            ),
        ),
    ),
    Mutation(
        "slot-kept",
        "A request that is cancelled while it runs keeps its slot.",
        f"{_FETCHING}.fetcher",
        (
            (
                "        finally:\n            self._throttle.release(holder)\n            self._may_request.set()\n",
                "        except anyio.get_cancelled_exc_class():\n            raise\n        else:\n            self._throttle.release(holder)\n        finally:\n            self._may_request.set()\n",
            ),
        ),
    ),
    Mutation(
        "unbounded-buffer",
        "Requests go on although the reader is slow.",
        f"{_FETCHING}.fetcher",
        (
            (
                "        ahead = pages < 2 * self._throttle.concurrency\n",
                "        ahead = True\n",
            ),
        ),
    ),
    Mutation(
        "closed-stream-keeps-pages",
        "A stream that is closed keeps the pages that were read ahead.",
        f"{_FETCHING}.fetcher",
        (
            (
                "            self._task.exception()\n        self.plan.discard()\n",
                "            self._task.exception()\n",
            ),
            (
                "            if self._stopped:\n                self.plan.discard()\n",
                "",
            ),
        ),
    ),
    Mutation(
        "stop-without-waiting",
        "Closing a stream does not wait for its requests to end.",
        f"{_FETCHING}.fetcher",
        (
            (
                "            while not self._task.done():\n                await asyncio.shield(asyncio.wait([self._task]))\n        if not self._task.cancelled():",
                "            pass\n        if self._task.done() and not self._task.cancelled():",
            ),
        ),
    ),
    Mutation(
        "stop-not-shielded",
        "A scope that is cancelled around a stream lets its block end before its requests.",
        f"{_FETCHING}.fetcher",
        (
            (
                "        with anyio.CancelScope(shield=True):\n            while",
                "        with anyio.CancelScope():\n            while",
            ),
        ),
    ),
    Mutation(
        "uncounted-retries",
        "Only the first attempt of a request is counted.",
        f"{_FETCHING}.fetcher",
        (
            (
                "            self.requests += 1\n",
                "            self.requests += attempts == 0\n",
            ),
        ),
    ),
    Mutation(
        "split-loses-half",
        "When a window that keeps failing is split, its second half is forgotten.",
        f"{_PAGING}.windows",
        (
            (
                "            self._queue.split(index, max(1, int(window.seconds // 2)))\n",
                "            self._queue.split(index, max(1, int(window.seconds // 2)))\n            del self._queue.windows[index + 1 :][:1], self._queue.windows[index + 1 : index + 2]\n",
            ),
        ),
    ),
    Mutation(
        "budget-unlimited",
        "Retries are never refused, however many there were.",
        f"{_HTTP}.budgets",
        (
            (
                "        if self._fifths < 5:\n            return False\n",
                "",
            ),
        ),
    ),
    Mutation(
        "budget-charged-per-request",
        "In an outage each request that failed takes a retry from the budget, and is refused without one.",
        f"{_HTTP}.throttle",
        (
            (
                "        if not self.paused and not self.throttle.consume_retry():\n",
                "        if not self.throttle.consume_retry():\n",
            ),
        ),
    ),
    Mutation(
        "all-probe",
        "While the server cannot be reached, every request that waits tries.",
        f"{_HTTP}.throttle",
        (
            (
                "            elif pause.sending < pause.allowed:\n",
                "            elif True:\n",
            ),
        ),
    ),
    Mutation(
        "outage-counted",
        "Attempts that found the server unreachable count like others.",
        f"{_HTTP}.throttle",
        (
            (
                "                if failure.unreachable:\n                    self.attempts -= 1\n",
                "",
            ),
            (
                "            if policy.max_attempts == 1 or deadline - self.throttle.clock() < 2 * PROBE_SECONDS:\n",
                "            if self.attempts >= policy.max_attempts or deadline - self.throttle.clock() < 2 * PROBE_SECONDS:\n",
            ),
        ),
    ),
    Mutation(
        "one-attempt-more",
        "A request is tried once more than the policy allows.",
        f"{_HTTP}.throttle",
        (
            (
                "        elif self.attempts >= min(limits) or ",
                "        elif self.attempts > min(limits) or ",
            ),
        ),
    ),
    Mutation(
        "retry-after-ignored",
        "The server's Retry-After is not heeded.",
        f"{_HTTP}.throttle",
        (
            (
                "            request.delay = max(request.delay, failure.retry_after)\n",
                "            pass\n",
            ),
        ),
    ),
    Mutation(
        "pause-not-shared",
        "Only the request that was told to wait waits; the others go on.",
        f"{_HTTP}.throttle",
        (
            (
                "        shared = failure.unreachable or failure.account_wide or lost_together\n",
                "        shared = failure.unreachable or lost_together\n",
            ),
        ),
    ),
    Mutation(
        "refusal-forgotten",
        "After a 401 or 403 other requests go on.",
        f"{_HTTP}.throttle",
        (
            (
                "                self._refused_until = self.clock() + REFUSED_SECONDS\n",
                "                self._refused_until = self.clock()\n",
            ),
        ),
    ),
    Mutation(
        "one-slot-more",
        "One request more than allowed is in flight.",
        f"{_HTTP}.throttle",
        (
            (
                "anyio.CapacityLimiter(concurrency)",
                "anyio.CapacityLimiter(concurrency + 1)",
            ),
        ),
    ),
    Mutation(
        "no-deadline",
        "An attempt has no deadline.",
        f"{_HTTP}.transport",
        (
            (
                "            with NetworkDeadline(limit) as deadline:\n",
                "            with NetworkDeadline(1e9) as deadline:\n",
            ),
        ),
    ),
    Mutation(
        "response-left-open",
        "A response that fails while it is read stays open.",
        f"{_HTTP}.transport",
        (
            (
                "            try:\n                body = make_body(response)\n                return await self._read_page(response, body, new_page)\n            finally:\n                await close_quietly(response.stream.aclose)\n",
                "            body = make_body(response)\n            page = await self._read_page(response, body, new_page)\n            await close_quietly(response.stream.aclose)\n            return page\n",
            ),
        ),
    ),
    Mutation(
        "bad-request-retried",
        "A request that the server refused for good is sent again.",
        f"{_HTTP}.responses",
        (
            (
                "    if status_code in RETRYABLE:\n",
                "    if status_code in RETRYABLE or status_code in {400, 401, 403}:\n",
            ),
        ),
    ),
    Mutation(
        "key-in-error",
        "The key is not masked in what the server echoes.",
        f"{_HTTP}.transport",
        (
            (
                "        self._mask, self._mask_key = _make_redactors(self._sign, headers)\n",
                "        self._mask = self._mask_key = lambda text: text\n",
            ),
        ),
    ),
    Mutation(
        "get-asks-once",
        "Calls by id that a capped response left out are not requested again.",
        f"{_FETCHING}.by_id",
        (
            (
                "            if len(still_missing) == len(missing) and requests > 1:\n",
                "            if still_missing:\n",
            ),
        ),
    ),
    Mutation(
        "follow-looks-ahead-only",
        "Each poll begins at the latest call, so calls that arrive late are missed.",
        "iovox_async.follow",
        (
            (
                "        return self.since if position - self.since <= self.lookback else position - self.lookback\n",
                "        return position\n",
            ),
        ),
    ),
    Mutation(
        "follow-forgets",
        "Calls are forgotten that the next poll reads again.",
        "iovox_async.follow",
        (
            (
                "if entry[0] >= start}",
                "if entry[0] > self.range.latest}",
            ),
        ),
    ),
    Mutation(
        "follow-blinded-by-the-future",
        "A call whose start lies ahead moves where polls begin.",
        "iovox_async.follow",
        (
            (
                "        if start > self._latest_now:\n            return\n",
                "",
            ),
            (
                "        certain, position = min(self.latest, self._checked_until), min(self.latest, self._estimated_now())\n",
                "        certain = position = self.latest\n",
            ),
        ),
    ),
    Mutation(
        "follow-ignores-updates",
        "A call that has changed is not delivered again although that was requested.",
        "iovox_async.follow",
        (
            (
                "        return previous is None or previous[1] != digest\n",
                "        return previous is None\n",
            ),
        ),
    ),
    Mutation(
        "final-by-the-machine",
        "What is final is decided by this machine's clock alone.",
        "iovox_async._params.account_time",
        (
            (
                "        utc = min(self._clocks(reading))\n",
                "        utc = self._clocks(reading)[0]\n",
            ),
        ),
    ),
    Mutation(
        "zone-taken-for-utc",
        "Without a time zone, the account's clock is taken for UTC.",
        "iovox_async._params.account_time",
        (
            (
                "            return _naive(utc) + MAX_AHEAD_OF_UTC\n",
                "            return _naive(utc)\n",
            ),
        ),
    ),
    Mutation(
        "file-not-synced",
        "A file gets its name before its bytes are on the disk.",
        "iovox_async.backfill._storage_local",
        (
            (
                "        self._file_system.sync(self._file)\n",
                "",
            ),
        ),
    ),
    Mutation(
        "names-not-synced",
        "The manifest is written before the names of the files that it tells of are on the disk.",
        "iovox_async.backfill._storage_local",
        (
            (
                "        if is_state:\n            self._storage.sync_names()\n        parents",
                "        parents",
            ),
        ),
    ),
    Mutation(
        "file-never-named",
        "A partition is called final although its file never gets its name.",
        "iovox_async.backfill._partition_writer",
        (
            (
                "            file.commit()\n",
                "            file.discard()\n",
            ),
        ),
    ),
    Mutation(
        "limit-per-slice",
        "The calls of earlier slices do not count for the most calls that were requested.",
        f"{_FETCHING}.reader",
        (
            (
                "        return self.spec.max_calls - self._calls - len(self._page_calls)\n",
                "        return self.spec.max_calls - len(self._page_calls)\n",
            ),
        ),
    ),
    Mutation(
        "limit-ignored-in-arrow",
        "A batch that was decoded when it arrived holds more calls than were requested.",
        "iovox_async.arrow._batches",
        (
            (
                "        block = rows.take(limit)\n        assert block is not None\n",
                "        block = rows.take(None)\n        assert block is not None\n",
            ),
        ),
    ),
    Mutation(
        "arrow-rows-unselected",
        "A batch holds all rows of its page, also those of other windows.",
        "iovox_async.arrow._batches",
        (
            (
                "            columns = columns.select(block.rows)\n        return self._deliver",
                "            pass\n        return self._deliver",
            ),
        ),
    ),
    Mutation(
        "arrow-position-of-first-row",
        "After a batch, the position is that of its first row.",
        "iovox_async.arrow._batches",
        (
            (
                "rows.column(key)[-1].as_py()",
                "rows.column(key)[0].as_py()",
            ),
        ),
    ),
    Mutation(
        "page-position-of-first-row",
        "After a page of records, the position is that of its first call.",
        f"{_FETCHING}.reader",
        (
            (
                "                self._last = _sort_key(calls[-1])\n",
                "                self._last = _sort_key(calls[0])\n",
            ),
        ),
    ),
    Mutation(
        "ascending-ids-resumed",
        "A page whose ids ascend is delivered from its first row on, although a stream continues in its first second.",
        f"{_PAGING}.order",
        (
            (
                "        if result.ids_ascend and not self.descending and self.resume is None:\n",
                "        if result.ids_ascend and not self.descending:\n",
            ),
        ),
    ),
    Mutation(
        "position-before-delivery",
        "The position counts records that are decoded and that nobody has taken yet.",
        f"{_FETCHING}.reader",
        (
            (
                "        delivered = len(starts) - length_hint(ready)\n",
                "        delivered = len(starts)\n",
            ),
        ),
    ),
    Mutation(
        "cancelled-work-lost",
        "The result of a thread is lost if the step that started it is cancelled.",
        f"{_FETCHING}.reader",
        (
            (
                "        result: T | None = await asyncio.shield(self._working)\n",
                "        working, self._working = self._working, None\n        result: T | None = await asyncio.shield(working)\n",
            ),
        ),
    ),
    Mutation(
        "position-of-unordered",
        "A stream in no order has a position, before which calls may be missing.",
        f"{_PAGING}.spec",
        (
            (
                "        if not (self.by_windows and self.ordered):\n            return None\n",
                "        if not self.by_windows:\n            return None\n",
            ),
            (
                "        if not (by_windows and ordered):\n            raise QueryError",
                "        if not by_windows:\n            raise QueryError",
            ),
        ),
    ),
    Mutation(
        "inner-end-believed",
        "The end of a window within the range is believed without a call after it.",
        f"{_PAGING}.evidence",
        (
            (
                "        if read is None or self._wrong_requests:\n            return start < stop\n",
                "        if read is None or self._wrong_requests:\n            return False\n",
            ),
        ),
    ),
    Mutation(
        "pages-limit-kept",
        "Read by page numbers, the limit stays above the server's own, in which its page numbers may count.",
        f"{_PAGING}.pages",
        (
            (
                "            self.limit = self.limit if claims_end else calls\n",
                "            pass\n",
            ),
        ),
    ),
    Mutation(
        "probe-lost-when-cancelled",
        "While all requests wait, one that is cancelled while it tries the server keeps the others waiting.",
        f"{_HTTP}.throttle",
        (
            (
                "        else:\n            self._reached = True\n            self._record_success()\n            self._record_response(probe_of)\n            return result\n        finally:\n            if probe_of is not None:\n                probe_of.request_ended()\n",
                "        except anyio.get_cancelled_exc_class():\n            probe_of = None\n            raise\n        else:\n            self._reached = True\n            self._record_success()\n            self._record_response(probe_of)\n            return result\n        finally:\n            if probe_of is not None:\n                probe_of.request_ended()\n",
            ),
        ),
    ),
    Mutation(
        "refusal-kept",
        "After a 401 or 403 nothing is ever sent again.",
        f"{_HTTP}.throttle",
        (
            (
                "                self._refused_until = self.clock() + REFUSED_SECONDS\n",
                "                self._refused_until = math.inf\n",
            ),
        ),
    ),
    Mutation(
        "pause-never-ends",
        "After a pause, no more than two requests are ever in flight, and a cancelled one keeps its place.",
        f"{_HTTP}.pause",
        (
            (
                "        self.sending -= 1\n        self.notify()\n",
                "        self.notify()\n",
            ),
        ),
    ),
    Mutation(
        "date-retry-after-ignored",
        "A Retry-After with a date is not heeded.",
        "iovox_async.retry",
        (
            (
                "    date = parse_http_date(value)\n    return None",
                "    date = None\n    return None",
            ),
        ),
    ),
    Mutation(
        "follow-pause-restarts",
        "A step that is cancelled in the pause between polls begins the pause anew.",
        "iovox_async.follow",
        (
            (
                "            remaining = max(0.0, self._pause_until - now)\n",
                "            remaining = self._pause\n",
            ),
        ),
    ),
    Mutation(
        "future-start-believed",
        "Where the account's time is unknown, it is taken for the latest that it may be.",
        "iovox_async.follow",
        (
            (
                "        if len(self._leads) < LEADS:\n            return self._earliest_now\n",
                "        if len(self._leads) < LEADS:\n            return self._latest_now\n",
            ),
        ),
    ),
    Mutation(
        "replaced-while-final",
        "The file of a final partition is replaced while the manifest calls it final.",
        "iovox_async.backfill._directory",
        (
            (
                "                {name: msgspec.structs.replace(entry, final=False) for name, entry in final.items()}\n            )\n            try:\n                self._write_manifest()\n",
                "                {name: msgspec.structs.replace(entry, final=False) for name, entry in final.items()}\n            )\n            try:\n                pass\n",
            ),
        ),
    ),
    Mutation(
        "manifest-name-not-synced",
        "Files are replaced before the name of the manifest that no longer calls them final is on the disk.",
        "iovox_async.backfill._storage_local",
        (
            (
                "        self._storage.unsynced.add(folder)\n        if is_state:\n            self._storage.sync_names()\n",
                "        self._storage.unsynced.add(folder)\n",
            ),
        ),
    ),
    Mutation(
        "manifest-lacks-the-last",
        "The partitions that were finished since the manifest was last written are not added at the end.",
        "iovox_async.backfill._directory",
        (
            (
                "        with self._write_mutex:\n            if self._unwritten:\n                self._write_entries()\n",
                "        with self._write_mutex:\n            if len(self._unwritten) > 1:\n                self._write_entries()\n",
            ),
        ),
    ),
)

#: The planted mistakes, by name.
MUTATIONS: dict[str, Mutation] = {mutation.name: mutation for mutation in _ALL}
