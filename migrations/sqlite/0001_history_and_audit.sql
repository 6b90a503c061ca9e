-- Ended sessions. Times are microseconds since 1970, UTC. Text that the store writes holds no NUL.
CREATE TABLE session (
    uid            TEXT    NOT NULL PRIMARY KEY,
    namespace      TEXT    NOT NULL,
    name           TEXT    NOT NULL,
    user_name      TEXT    NOT NULL,
    workspace      TEXT    NOT NULL,
    workspace_type TEXT,
    phase          TEXT    NOT NULL,
    reason         TEXT,
    started_at     INTEGER NOT NULL,
    ended_at       INTEGER NOT NULL,
    object         TEXT    NOT NULL
) STRICT;

CREATE INDEX session_of_namespace ON session (namespace, started_at, uid);
CREATE INDEX session_of_user ON session (user_name, started_at, uid);
CREATE INDEX session_ended ON session (ended_at);

-- The audit chain: src/store/audit/chain.rs says what `hash` is over, which is every column.
CREATE TABLE audit_record (
    seq            INTEGER NOT NULL PRIMARY KEY,
    at             INTEGER NOT NULL,
    organization   TEXT    NOT NULL,
    actor          TEXT    NOT NULL,
    action         TEXT    NOT NULL,
    target_kind    TEXT    NOT NULL,
    target_name    TEXT    NOT NULL,
    target_uid     TEXT,
    outcome        TEXT    NOT NULL,
    reason         TEXT,
    address        TEXT,
    address_source TEXT,
    once           TEXT,
    details        TEXT    NOT NULL,
    previous       TEXT    NOT NULL,
    hash           TEXT    NOT NULL
) STRICT;

CREATE UNIQUE INDEX audit_once ON audit_record (once) WHERE once IS NOT NULL;
CREATE INDEX audit_of_organization ON audit_record (organization, seq);
CREATE INDEX audit_of_actor ON audit_record (actor, seq);
CREATE INDEX audit_at ON audit_record (at);

-- Where the chain ends. One row: what a tail that was cut off is found by.
CREATE TABLE audit_head (
    id   INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    seq  INTEGER NOT NULL,
    hash TEXT    NOT NULL
) STRICT;

INSERT INTO audit_head (id, seq, hash)
VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');
