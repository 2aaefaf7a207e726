"""The outbox: tasks that are submitted inside your own transaction, in your own database.

``task.options(tx=connection).submit(…)`` inserts a row into the table ``taskloom_outbox``; ``app.outbox(connect)`` relays
committed rows into the app's store. ``docs/outbox.md`` is the guide. This module has what goes beside them: the table for
migrations (:func:`schema`, :func:`create_table`), and the classes of what you are given.
"""

from taskloom.outbox._enqueue import create_table, schema
from taskloom.outbox._handle import OutboxHandle
from taskloom.outbox._outbox import Outbox, RefusedRow

__all__ = ["Outbox", "OutboxHandle", "RefusedRow", "create_table", "schema"]
