"""Looks into the private parts of a session, for tests of what is left running."""


def requests_in_flight(insights):
    """The number of requests that hold a slot of the session's throttle."""
    return insights._connection.throttle.in_flight


def requests_waiting(insights):
    """The number of requests that wait for a slot."""
    return insights._connection.throttle.limiter.statistics().tasks_waiting


def open_tasks(insights):
    """The number of tasks of the session that have not ended."""
    return insights._connection.supervisor.task_count


def endpoint(insights):
    """What sends the attempts of the session; tests replace its `get_page`."""
    return insights._connection.endpoint


async def page_ids(insights):
    """The ids of the calls of one page of the first days of 2024."""
    return [call.id for call in (await insights.page("2024-01-01", "2024-01-10")).calls]
