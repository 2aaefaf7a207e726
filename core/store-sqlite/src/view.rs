//! The view `taskloom_tasks`: tasks as a person or another program wants to read them. docs/schema.md promises it.
//!
//! What is kept as JSON beside the plain columns is taken apart here; a task that has none of it costs a comparison. New
//! columns come at the end, by a step of the tables ([`crate::tables`]) that makes the view anew: a view holds no rows, so
//! whoever reads it meanwhile sees one of the two.

use taskloom_model::{State, WaitingFor};

/// The view's words are the model's, by number.
const _: () = assert!(State::ALL.len() == 10 && WaitingFor::ALL.len() == 6);

/// The columns that it has had from the beginning.
macro_rules! first_columns {
    () => {
        "
    lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4) || '-' || substr(hex(id), 13, 4) || '-'
        || substr(hex(id), 17, 4) || '-' || substr(hex(id), 21)) AS id,
    name,
    rare ->> 'version' AS version,
    queue,
    CASE priority WHEN 0 THEN 'low' WHEN 1 THEN 'normal' WHEN 2 THEN 'high' WHEN 3 THEN 'critical' END AS priority,
    CASE state WHEN 0 THEN 'pending' WHEN 1 THEN 'queued' WHEN 2 THEN 'running' WHEN 3 THEN 'retrying'
        WHEN 4 THEN 'succeeded' WHEN 5 THEN 'failed' WHEN 6 THEN 'timed_out' WHEN 7 THEN 'cancelled'
        WHEN 8 THEN 'expired' WHEN 9 THEN 'skipped' END AS state,
    attempt,
    failures,
    crashes,
    retries,
    generation,
    owner,
    strftime('%Y-%m-%dT%H:%M:%S', created / 1000000, 'unixepoch') || printf('.%06dZ', created % 1000000) AS created,
    strftime('%Y-%m-%dT%H:%M:%S', updated / 1000000, 'unixepoch') || printf('.%06dZ', updated % 1000000) AS updated,
    CASE WHEN eligible < 253402300800000000 THEN
        strftime('%Y-%m-%dT%H:%M:%S', eligible / 1000000, 'unixepoch') || printf('.%06dZ', eligible % 1000000)
    END AS eligible,
    strftime('%Y-%m-%dT%H:%M:%S', started / 1000000, 'unixepoch') || printf('.%06dZ', started % 1000000) AS started,
    strftime('%Y-%m-%dT%H:%M:%S', finished / 1000000, 'unixepoch') || printf('.%06dZ', finished % 1000000) AS finished,
    history ->> '$.errors[#-1].kind' AS error_type,
    history ->> '$.errors[#-1].message' AS error_message,
    history ->> 'reason' AS reason,
    rare -> 'tags' AS tags,
    (SELECT json_group_object(value ->> 0, value ->> 1) FROM json_each(rare -> 'metadata')) AS metadata,
    rare ->> '$.unique.key' AS unique_key,
    rare ->> 'correlation_id' AS correlation_id,
    rare ->> '$.parent.id' AS parent,
    CAST(payload AS TEXT) AS payload,
    CAST(result AS TEXT) AS result"
    };
}

/// The view as it came.
pub(crate) const CREATE: &str =
    concat!("CREATE VIEW taskloom_tasks AS SELECT", first_columns!(), " FROM tasks;");

/// With the key that a task waits its turn under, and what it waits for.
pub(crate) const KEYS_STEP: &str = concat!(
    "DROP VIEW taskloom_tasks; CREATE VIEW taskloom_tasks AS SELECT",
    first_columns!(),
    ",
    key,
    CASE waiting_for WHEN 1 THEN 'eta' WHEN 2 THEN 'dependencies' WHEN 3 THEN 'signal' WHEN 4 THEN 'sleep'
        WHEN 5 THEN 'key' END AS waiting_for
FROM tasks;"
);
