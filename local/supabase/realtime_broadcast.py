"""Broadcast from the database: rows of realtime.messages on their way to the topic's subscribers."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import psycopg

from local.supabase.pool import Pool, PoolTimeoutError
from local.supabase.realtime_pgoutput import Change, Transaction
from local.supabase.realtime_protocol import Broadcast
from local.supabase.realtime_topics import Topic, Topics

PUBLICATION = "supabase_realtime_messages_publication"
KEEP = "3 days"
PRUNE_SECONDS = 600.0
REPLAY_MESSAGES_MAX = 25

log = logging.getLogger(__name__)


class DatabaseBroadcasts:
    """Publishes what `realtime.send` inserted, in the order of the commits."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    async def publish(self, transaction: Transaction) -> None:
        """Queue every message of one transaction."""
        for change in transaction.changes:
            self._publish(change)
            # One turn for the writers, or a transaction of thousands of messages would overflow every queue.
            await asyncio.sleep(0)

    def _publish(self, change: Change) -> None:
        row = change.new or {}
        topic, event, payload = row["topic"], row["event"], row["payload"]
        if row["extension"] != "broadcast" or not (isinstance(topic, str) and isinstance(event, str)):
            return
        to = Topic(topic, private=row["private"] == "t")
        body = payload.encode() if isinstance(payload, str) else b"null"
        meta = {"id": row["id"]}
        self._topics.publish(Broadcast(to.wire, event, body, meta=meta, framed=False), to)


async def replay(pool: Pool, topic: Topic, since: float, limit: int) -> list[Broadcast]:
    """The last messages (25 at most) that the database sent to a private topic since `since` (ms), oldest first.

    Raises psycopg.Error, PoolTimeoutError.
    """
    query = """
      select id::text, event, payload from realtime.messages
      where topic = $1 and private and extension = 'broadcast'
        and inserted_at >= to_timestamp($2::float8 / 1000) at time zone 'utc'
      order by inserted_at desc limit $3
    """
    async with pool.connection() as connection:
        cursor = await connection.execute(query, (topic.name, since, max(0, min(limit, REPLAY_MESSAGES_MAX))))
        rows = await cursor.fetchall()
    return [_replayed(topic, *row) for row in reversed(rows)]


async def prune(pool: Pool) -> None:
    """Delete old messages, now and every ten minutes, until cancelled. Hosted Supabase drops daily partitions."""
    query = f"delete from realtime.messages where inserted_at < now() at time zone 'utc' - interval '{KEEP}'"  # noqa: S608 a constant
    while True:
        try:
            async with pool.connection() as connection:
                await connection.execute(query)
        except (psycopg.Error, PoolTimeoutError) as error:
            log.info("old messages were not pruned: %s", str(error).strip())
        await asyncio.sleep(PRUNE_SECONDS)


def _replayed(topic: Topic, message_id: str, event: str, payload: Any) -> Broadcast:
    meta = {"replayed": True, "id": message_id}
    return Broadcast(topic.wire, event, json.dumps(payload).encode(), meta=meta, framed=False)
