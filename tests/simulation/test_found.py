"""Schedules that once violated an invariant: what the simulation found, as it was shrunk."""

import pytest

from .runner import run
from .schedule import Schedule

FOUND = {
    "a call listed twice that fills page 2 of a second, before another call": (
        '{"seed": 902777814, "starts": [0, 0.5, 1.9999989999999999, 2, 2.999999, 3.5, 3.999999], "ahead": 14, "skew": 518400.0, '
        '"motions": ["delete"], "slip": "twice", "concurrency": 1, "uses": [{"end": 10, "leave_at": 10}]}'
    ),
    "a request that fails just before the pause of an earlier failure ends": (
        '{"seed": 401, "starts": [154.0, 154.0, 154.0], "end": "second", "outage": [0.0, 10.0], "latency": 1.0, '
        '"concurrency": 64, "page_size": 1, "timeout": 5.0, "attempts": 3, "uses": [{"end": 600, "ordered": false, '
        '"leave": "timeout", "leave_at": 0.012192554380128895}, {"end": 600, "ordered": false, "fields": "bare"}]}'
    ),
    "a block that a scope around it cancels": (
        '{"seed": 25, "starts": [48352, 69868, 70307], "latency": 0.1, "concurrency": 1, "shuffle": 0.3, '
        '"uses": [{"end": 90000, "leave": "scope", "leave_at": 0.017942218376549225}]}'
    ),
    "a step of a follower that is cancelled in the pause": (
        '{"seed": 17, "starts": [6], "concurrency": 1, "uses": [{"kind": "follow", "leave": "anext", "leave_at": 371}]}'
    ),
    "a second whose pages list a call twice": (
        '{"seed": 90870775, "starts": [474.0, 474.0], "slip": "double", "concurrency": 1, "page_size": 1, '
        '"uses": [{"end": 90000}]}'
    ),
    "a second that overflows two rows, of which one is listed twice": (
        '{"seed": 569012883, "starts": [4.0, 4.0, 4.0], "slip": "double", "concurrency": 1, "page_size": 2, "uses": [{}]}'
    ),
    "an empty response to a check that reaches into a window not read yet": (
        '{"seed": 915, "starts": [32], "end": "second", "empty": "{}", "faults": {"0": "500", "1": "503", "2": "500"}, '
        '"slip": "empty-first", "latency": 1.0, "concurrency": 1, "page_size": 6, "timeout": 5.0, "uses": [{"end": 59}]}'
    ),
    "a Retry-After while the probe of an earlier fault is on its way": (
        '{"seed": 90874193, "starts": [204665, 204665, 204665, 204665, 204665, 204665, 204665], "ahead": -5, "motion": 2, '
        '"motions": ["edit"], "faults": {"2": "refused", "3": "429-after"}, "latency": 1.0, "page_size": 10, '
        '"uses": [{"kind": "backfill", "end": 259199, "leave_at": 40, "format": "csv"}]}'
    ),
    "a first page, read by page numbers, that lists a call twice": (
        '{"seed": 478348493, "starts": [345478, 345478, 345478], "cap": 2, "slip": "double", "concurrency": 1, '
        '"uses": [{"start": 345420, "end": 345600, "paging": "pages", "order": "id_ASC"}]}'
    ),
    "pages of a full second that stay in memory after their delivery": (
        '{"seed": 27, "starts": [6, 6, 6], "cap": 1, "ahead": 9, "motions": ["delete"], "concurrency": 1, '
        '"uses": [{"start": 3, "end": 9, "leave": "break", "leave_at": 2}]}'
    ),
    "a page that stays in memory because an earlier attempt failed": (
        '{"seed": 91, "starts": [47898, 47898], "skew": 518400.0, "motion": 1, "motions": ["insert"], '
        '"faults": {"4": "503", "0": "502"}, "concurrency": 1, "uses": [{"end": 89999, "leave_at": 72}]}'
    ),
    "pages that stay in memory because the cause of a failure refers to it": (
        '{"seed": 701564, "starts": [44], "motions": ["grow"], "faults": {"1": "reset", "2": "reset", "4": "reset", '
        '"5": "reset", "7": "reset", "10": "reset"}, "concurrency": 1, "first_page": 3, '
        '"uses": [{"start": 20, "end": 59, "leave_at": 1}]}'
    ),
    "pages of polls that stay in memory because the cause of a failure refers to it": (
        '{"seed": 701897, "starts": [49], "faults": {"12": "reset", "15": "reset", "22": "reset", "26": "reset"}, '
        '"concurrency": 1, "first_page": 3, "uses": [{"kind": "follow", "leave_at": 289}]}'
    ),
    "pages of a second that was not read to its end": (
        '{"seed": 5012, "starts": [0, 1, 4, 4, 4, 6, 7, 7, 7, 7, 7, 7, 8], "ahead": -5, "faults": {"4": "503"}, '
        '"latency": 1.0, "concurrency": 3, "page_size": 1, "first_page": 2, "uses": [{"end": 5, '
        '"order": "call_start_DESC", "max_calls": 1, "filtered": true, "leave": "slow", "leave_at": 2}]}'
    ),
    "a page that the error about it keeps in memory": (
        '{"seed": 5462, "starts": [345478, 345478, 345478], "cap": 1, "motions": ["move"], "rate": 0.1, '
        '"concurrency": 1, "uses": [{"start": 345470, "end": 345600, "open": true, "paging": "pages", '
        '"leave_at": 176}]}'
    ),
    "an outage in which each request times out before it is refused": (
        '{"seed": 102139, "starts": [595.0, 595.0, 595.0, 595.0], "ahead": 9, "motions": ["delete"], "rate": 0.2, '
        '"outage": [0.5, 60.5], "latency": 20.0, "concurrency": 8, "timeout": 5.0, "attempts": 3, "first_page": 1, '
        '"uses": [{"end": 90000}]}'
    ),
    "a page that the cancellation of a backfill keeps in memory": (
        '{"seed": 272796784, "starts": [37193, 39025, 42350, 42690, 50694, 51392, 51918, 53940, 54961, 59520, 60458, 60785, '
        '61156, 67042, 67673, 69354, 75718, 78208, 81166, 83512, 84977, 86261, 86273], "cap": 3, "id_text": true, '
        '"latency": 20.0, "concurrency": 1, "shuffle": 1.0, "uses": [{"kind": "backfill", "end": 86399, '
        '"leave": "cancel", "leave_at": 344, "format": "parquet", "crash_at": 37}]}'
    ),
    "polls of a follower whose server has never been reached": (
        '{"seed": 845764785, "outage": [0.0, 240.0], "concurrency": 1, "uses": [{"kind": "follow", "leave_at": 221}]}'
    ),
    "a page limit that decreases when a page of one row is requested": (
        '{"seed": 845768829, "starts": [3552.0, 3557.0, 3564.0, 3569.0, 3577.0, 3584.0, 3587.0, 3598.0, 3619.0, 3619.'
        "0, 3627.0, 3635.0, 3637.0, 3638.0, 3651.0, 3668.0, 3670.0, 3676.0, 3685.0, 3720.0, 3720.0, 3732.0, 3735.0, 3"
        "736.0, 3753.0, 3756.0, 3756.0, 3792.0, 3820.0, 3824.0, 3845.0, 3861.0, 3861.0, 3869.0, 3876.0, 3880.0, 3880."
        '0, 3894.0, 3915.0, 3938.0, 3943.0, 3949.0, 3953.0, 3957.0], "end": "exclusive", "offset": "cap", "shown": "e'
        'xact", "empty": "{}", "timezone": "Europe/London", "motions": ["edit", "vanish"], "rate": 0.1, "outage": [0.'
        '0, 10.0], "slip": "sink", "latency": 1.0, "concurrency": 8, "page_size": 60, "attempts": 1, "first_page": 1,'
        ' "uses": [{"end": 4000}]}'
    ),
    "a page that the error of a closed session keeps in memory": (
        '{"seed": 728, "starts": [0], "ahead": -5, "page_size": 1, "first_page": 2, "uses": [{"start": 1, "end": 3, '
        '"mode": "arrow", "paging": "pages", "leave": "close-session", "leave_at": 52}]}'
    ),
    "a full page, requested along with the small one, of a stream that was left": (
        '{"seed": 5904, "starts": [4.0, 4.0, 4.0, 6.0, 6.0, 6.0, 8.0, 8.0, 9.0, 9.0], "motion": 1, '
        '"motions": ["grow"], "rate": 0.2, "latency": 20.0, "page_size": null, "first_page": 3, '
        '"uses": [{"end": 9, "mode": "arrow", "fields": "default", "leave": "cancel", "leave_at": 29}]}'
    ),
    "full seconds whose requests begin where those of windows do": (
        '{"seed": 777621085, "starts": [0, 1, 14, 15, 17], "ahead": 14, "motions": ["return"], "concurrency": 1, '
        '"page_size": 1, "uses": [{"mode": "pages", "order": "call_start_DESC", "leave_at": 329}]}'
    ),
    "calls of a second that are gone for the moment of its page 2": (
        '{"seed": 6247953, "starts": [10, 19.412, 20.5, 21.412, 24, 24, 30, 30.999999, 30.999999, 34.412, 34.5, 34'
        '.5, 35.412, 38, 41.999999], "cap": 3, "motion": 9, "motions": ["vanish", "grow", "insert", "return"], "ra'
        'te": 0.2, "latency": 1.0, "page_size": 1, "uses": [{"order": "call_start_DESC", "leave_at": 5}, {"leave_a'
        't": 5}, {"order": "call_start_DESC", "fields": "nested", "max_calls": 1, "leave_at": 10}]}'
    ),
    "pages of records, each joined while others arrive": (
        '{"seed": 9140, "starts": [5003, 5154, 6676, 9497, 11672, 13845, 14169, 16390, 16587, 19401, 22395, 22684,'
        " 24148, 24632, 26077, 27009, 33117, 36886, 41628, 42201, 44623, 47387, 51802, 52412, 62182, 62870, 63541,"
        ' 63965, 65436, 67585, 68889, 70280, 71141, 80797, 81200, 82988, 83187, 86662, 89449, 89487], "end": "seco'
        'nd", "cap": 2, "shown": "exact", "id_text": true, "gzip": true, "ahead": 9, "latency": 20.0, "concurrency'
        '": 3, "page_size": 2, "attempts": 3, "uses": [{"end": 90000, "mode": "pages", "leave": "close", "leave_at'
        '": 21}]}'
    ),
    "a stream that another task closes when its next rows have just arrived": (
        '{"seed": 593196062, "starts": [1, 3, 3, 4, 5, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9], "cap": 5, "ahead": 9, "latency": 1.0, '
        '"page_size": 6, "shuffle": 0.3, "uses": [{"end": 10, "leave": "close", "leave_at": 203}]}'
    ),
    "a server never reached, whose requests time out or are refused": (
        '{"seed": 593185947, "starts": [5.0, 5.0], "motions": ["swap"], "rate": 0.7, "outage": [0.0, 60.0], "latency": 20.0, '
        '"concurrency": 64, "timeout": 5.0, "first_page": 2, "uses": [{"end": 10}]}'
    ),
    "a follower whose first poll begins by a clock that is days ahead, and reads a call of the future": (
        '{"seed": 173977859, "starts": [89832], "skew": 518400.0, "outage": [0.0, 240.0], "slip": "future", '
        '"concurrency": 1, "uses": [{"kind": "follow", "leave_at": 50}]}'
    ),
    "an empty list that comes as slowly as an attempt may take": (
        '{"seed": 823475603, "starts": [9.0], "motions": ["grow"], "rate": 0.1, "faults": {"0": "drip"}, "slip": '
        '"empty-first", "concurrency": 1, "timeout": 5.0, "attempts": 1, "uses": [{"end": 10, "paging": "pages", "leave_at": 2}]}'
    ),
    "a cache that repeats a wrongly empty response, of a request whose check is a full page": (
        '{"seed": 821180521, "starts": [0], "slip": "empty-first", "cached": true, "concurrency": 1, "page_size": 2, '
        '"uses": [{"end": 3}]}'
    ),
    "a server that refuses connections after a response that was cancelled": (
        '{"seed": 620372853, "starts": [328678.0, 329358.0, 329781.0], "outage": [0.5, 60.5], "latency": 1.0, '
        '"concurrency": 1, "uses": [{"start": 285480, "end": 345600, "open": true, "fields": "default", '
        '"leave": "timeout", "leave_at": 0.6737071854069088}]}'
    ),
    "a server whose first response comes when another stream gives it up": (
        '{"seed": 521324137, "starts": [1.0, 1.0, 1.0, 1.0, 1.0], "skew": 60.0, "motions": ["swap"], "rate": 0.7, '
        '"outage": [0.0, 60.0], "latency": 1.0, "lag": 0.02, "uses": [{"end": 9}, {"end": 5, "leave_at": 395}]}'
    ),
    "a server that refuses connections, given up by the stream whose time ends before the next probe of another one": (
        '{"seed": 459064009, "starts": [86168, 86270, 87888], "outage": [0.0, 240.0], "latency": 1.0, "timeout": 5.0, '
        '"uses": [{"end": 89999, "mode": "arrow", "leave_at": 368}, {"end": 89999, "leave": "close", "leave_at": 55}]}'
    ),
    "a backfill that begins anew with two requests, after the failures before it were forgotten": (
        '{"seed": 257427729, "starts": [183282, 243382], "motions": ["delete"], "outage": [0.0, 240.0], "latency": 20.0, '
        '"first_page": 2, "uses": [{"kind": "backfill", "end": 259199, "leave_at": 3, "crash": "kill", "crash_at": 2, '
        '"crash_after": "rename"}]}'
    ),
    "a call that moves during a poll, read in its new state and then in its old one": (
        '{"seed": 459080095, "empty": null, "ahead": -12, "motion": 3, "motions": ["grow", "move", "vanish", "insert"], '
        '"rate": 0.1, "outage": [2.0, 62.0], "latency": 1.0, "concurrency": 8, "attempts": 1, '
        '"uses": [{"kind": "follow", "updates": true, "leave_at": 321}]}'
    ),
}


@pytest.mark.sweep(5)
@pytest.mark.parametrize("text", FOUND.values(), ids=FOUND.keys())
def test_given_a_schedule_that_was_found_when_it_runs_then_every_invariant_holds(text, noise):
    assert run(Schedule.from_json(text), noise).violations == []
