"""dlt's REST client: pages by number until an empty one, as plain dicts."""

from __future__ import annotations

from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.paginators import PageNumberPaginator

from ..measure import HEADERS, Job, Probe


def client(job: Job) -> RESTClient:
    return RESTClient(
        job.base_url,
        headers=HEADERS,
        paginator=PageNumberPaginator(base_page=1, page_param="page", total_path=None),
    )


def run(job: Job, probe: Probe) -> tuple[int, int]:
    count = checksum = 0
    for page in client(job).paginate("calls/insights", params=job.parameters(), data_selector="$"):
        for call in page:
            if not count:
                probe.first()
            count += 1
            checksum += call["id"]
    return count, checksum
