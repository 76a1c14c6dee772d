"""The tables and views of a run's database; ``user_version`` counts their versions.

The views are plain enough for every reader of SQLite files, DuckDB included.  They follow the same
rules as ``core.summary``: late messages of an attempt that is over do not count, a new attempt
voids the earlier ones' points from its first step on, and a trial that lost its worker waits.
"""

from __future__ import annotations

__all__ = ["APPLICATION_ID", "COLUMNS", "EVENTS", "SCHEMA_VERSION", "VIEWS"]

SCHEMA_VERSION = 1
APPLICATION_ID = 0x4D474759
"""``MGGY``: tells a run's database from any other SQLite file."""

COLUMNS = (
    "seq, at, kind, trial, attempt, step, value, worker, status, text, body, crc"  # as in EVENTS
)

EVENTS = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,  -- counts from 0 without gaps
    at REAL NOT NULL,         -- seconds of the run's active time
    kind TEXT NOT NULL,
    trial INTEGER,
    attempt INTEGER,
    step INTEGER,
    value REAL,               -- always finite; where status is nan, inf or -inf: empty
    worker TEXT,
    status TEXT,
    text TEXT,                -- a sentence for people
    body TEXT,                -- JSON
    crc INTEGER NOT NULL
)
"""

_TRIALS = """
CREATE VIEW trials AS
WITH suggested AS (
    SELECT e.seq, e.trial, e.body FROM events e
    JOIN (SELECT MAX(seq) AS seq FROM events WHERE kind = 'Suggested' GROUP BY trial) latest
    ON e.seq = latest.seq
), budgets AS (
    SELECT seq, trial, json_extract(body, '$.budget') AS budget,
        LEAD(seq) OVER (PARTITION BY trial ORDER BY seq) AS until
    FROM events WHERE kind = 'Suggested'
), losses AS (
    SELECT seq, at, worker FROM events WHERE kind = 'WorkerLost'
), runs AS (
    SELECT e.seq, e.trial, e.attempt, e.worker, e.at,
        (SELECT MIN(l.seq) FROM losses l WHERE l.worker = e.worker AND l.seq > e.seq) AS lost
    FROM events e WHERE e.kind = 'TrialStarted'
), ends AS (
    SELECT seq, trial, attempt, at, kind, value, text
    FROM events WHERE kind IN ('TrialFinished', 'TrialFailed', 'TrialStopped')
), first_ends AS (
    SELECT r.seq AS run, MIN(e.seq) AS seq
    FROM runs r JOIN ends e ON e.trial = r.trial AND e.attempt = r.attempt
    WHERE e.seq > r.seq AND (r.lost IS NULL OR e.seq < r.lost)
    GROUP BY r.seq
), decided AS (
    SELECT trial, attempt, MAX(text) AS reason, MAX(value) AS final
    FROM events WHERE kind = 'StopDecided' GROUP BY trial, attempt
), closed AS (
    SELECT r.seq, r.trial, r.attempt, r.worker, r.at, r.lost, e.kind, e.value, e.text,
        COALESCE(e.at, (SELECT l.at FROM losses l WHERE l.seq = r.lost)) AS until,
        d.reason, d.final, b.budget
    FROM runs r LEFT JOIN first_ends f ON f.run = r.seq LEFT JOIN ends e ON e.seq = f.seq
    LEFT JOIN decided d ON d.trial = r.trial AND d.attempt = r.attempt
    LEFT JOIN budgets b ON b.trial = r.trial AND b.seq < r.seq
        AND (b.until IS NULL OR b.until > r.seq)
), curves AS (
    SELECT f.trial, l.step + CASE WHEN f.first >= 1 THEN 0 ELSE 1 END AS resource
    FROM (SELECT trial, MIN(step) AS first, MAX(seq) AS seq FROM events
        WHERE kind = 'MetricReported' GROUP BY trial) f JOIN events l ON l.seq = f.seq
), completed AS (
    SELECT seq, closed.trial, budget, kind, final,
        CASE WHEN kind = 'TrialFinished' AND (final IS NULL OR budget IS NULL
            OR resource IS NULL OR resource <= budget) THEN value ELSE final END AS value
    FROM closed LEFT JOIN curves ON curves.trial = closed.trial WHERE kind = 'TrialFinished'
    OR final IS NOT NULL AND until IS NOT NULL AND COALESCE(kind, '') <> 'TrialFailed'
), done AS (
    SELECT c.* FROM completed c
    JOIN (SELECT MAX(seq) AS seq FROM completed GROUP BY trial) newest ON newest.seq = c.seq
), counted AS (
    SELECT trial, COUNT(*) AS attempts, MIN(at) AS started, MAX(seq) AS seq,
        SUM(until - at) AS duration
    FROM closed GROUP BY trial
), reported AS (
    SELECT trial, attempt, MAX(seq) AS seq FROM events
    WHERE kind = 'MetricReported' GROUP BY trial, attempt
), setting AS (
    SELECT MAX(json_extract(body, '$.fidelity')) AS fidelity
    FROM events WHERE kind = 'ExperimentStarted'
), finish AS (
    SELECT COUNT(*) AS finished FROM events WHERE kind = 'ExperimentFinished'
    AND seq > (SELECT COALESCE(MAX(seq), -1) FROM events WHERE kind = 'TrialStarted')
), judged AS (
    SELECT u.trial, u.body, c.attempts, c.started, c.duration, r.worker,
        (SELECT e.value FROM events e WHERE e.seq = m.seq) AS latest,
        CASE WHEN w.resource < r.budget THEN w.resource ELSE r.budget END AS came,
        o.value AS final, CASE WHEN w.resource < o.budget AND o.final IS NULL
            AND fidelity = 'stopping' THEN w.resource ELSE o.budget END AS reached,
        r.reason, COALESCE(r.text, g.text) AS error,
        COALESCE(r.until, g.at) AS until,
        CASE WHEN c.trial IS NULL THEN 'pending'
             WHEN u.seq > c.seq THEN 'waiting'
             WHEN o.seq = c.seq THEN 'completed'
             WHEN r.kind = 'TrialFailed' OR g.trial IS NOT NULL THEN 'failed'
             WHEN r.reason IS NOT NULL AND r.until IS NOT NULL THEN 'stopped'
             WHEN r.until IS NOT NULL THEN 'waiting'
             WHEN r.reason IS NOT NULL THEN 'stopping'
             ELSE 'running' END AS state
    FROM suggested u LEFT JOIN counted c ON c.trial = u.trial
    LEFT JOIN closed r ON r.seq = c.seq
    LEFT JOIN ends g ON g.trial = r.trial AND g.attempt = r.attempt + 1
        AND g.kind = 'TrialFailed' AND g.seq > r.seq  -- given up: it lost too many workers
    LEFT JOIN reported m ON m.trial = r.trial AND m.attempt = r.attempt
    LEFT JOIN done o ON o.trial = u.trial
    LEFT JOIN curves w ON w.trial = u.trial
    CROSS JOIN setting
)
SELECT trial AS id,
    CASE WHEN state IN ('waiting', 'stopping', 'running') AND finished > 0 THEN 'interrupted'
         WHEN state = 'waiting' THEN 'pending' ELSE state END AS status,
    CASE state WHEN 'stopped' THEN latest ELSE final END AS value,
    CASE state WHEN 'stopped' THEN came ELSE reached END AS budget,
    COALESCE(attempts, 0) AS attempts,
    worker,
    started,
    CASE WHEN state IN ('completed', 'stopped', 'failed') THEN until END AS ended,
    duration,
    CASE WHEN state IN ('stopped', 'stopping') THEN reason END AS stop_reason,
    CASE WHEN state = 'failed' THEN error END AS error,
    json_extract(body, '$.hparams') AS hparams
FROM judged CROSS JOIN finish
ORDER BY id
"""

_METRICS = """
CREATE VIEW metrics AS
WITH firsts AS (
    SELECT trial, attempt, MIN(step) AS step FROM events
    WHERE kind = 'MetricReported' GROUP BY trial, attempt
), cuts AS (
    SELECT older.trial, older.attempt, MIN(newer.step) AS step
    FROM firsts older JOIN firsts newer
    ON newer.trial = older.trial AND newer.attempt > older.attempt
    GROUP BY older.trial, older.attempt
)
SELECT e.trial, e.attempt, e.step, e.value, e.at, e.body AS others
FROM events e LEFT JOIN cuts ON cuts.trial = e.trial AND cuts.attempt = e.attempt
WHERE e.kind = 'MetricReported' AND (cuts.step IS NULL OR e.step < cuts.step)
ORDER BY e.trial, e.step
"""

VIEWS = (_TRIALS, _METRICS)
