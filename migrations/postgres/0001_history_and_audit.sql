-- Ended sessions. Times are microseconds since 1970, UTC. Text that the store writes holds no NUL.
-- Order and equality are those of bytes, as in SQLite.
CREATE TABLE session (
    uid            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    namespace      TEXT COLLATE "C" NOT NULL,
    name           TEXT COLLATE "C" NOT NULL,
    user_name      TEXT COLLATE "C" NOT NULL,
    workspace      TEXT COLLATE "C" NOT NULL,
    workspace_type TEXT COLLATE "C",
    phase          TEXT COLLATE "C" NOT NULL,
    reason         TEXT COLLATE "C",
    started_at     BIGINT           NOT NULL,
    ended_at       BIGINT           NOT NULL,
    object         TEXT COLLATE "C" NOT NULL
);

CREATE INDEX session_of_namespace ON session (namespace, started_at, uid);
CREATE INDEX session_of_user ON session (user_name, started_at, uid);
CREATE INDEX session_ended ON session (ended_at);

-- The audit chain: src/store/audit/chain.rs says what `hash` is over, which is every column.
CREATE TABLE audit_record (
    seq            BIGINT           NOT NULL PRIMARY KEY,
    at             BIGINT           NOT NULL,
    organization   TEXT COLLATE "C" NOT NULL,
    actor          TEXT COLLATE "C" NOT NULL,
    action         TEXT COLLATE "C" NOT NULL,
    target_kind    TEXT COLLATE "C" NOT NULL,
    target_name    TEXT COLLATE "C" NOT NULL,
    target_uid     TEXT COLLATE "C",
    outcome        TEXT COLLATE "C" NOT NULL,
    reason         TEXT COLLATE "C",
    address        TEXT COLLATE "C",
    address_source TEXT COLLATE "C",
    once           TEXT COLLATE "C",
    details        TEXT COLLATE "C" NOT NULL,
    previous       TEXT COLLATE "C" NOT NULL,
    hash           TEXT COLLATE "C" NOT NULL
);

CREATE UNIQUE INDEX audit_once ON audit_record (once) WHERE once IS NOT NULL;
CREATE INDEX audit_of_organization ON audit_record (organization, seq);
CREATE INDEX audit_of_actor ON audit_record (actor, seq);
CREATE INDEX audit_at ON audit_record (at);

-- Where the chain ends. One row: what a tail that was cut off is found by.
CREATE TABLE audit_head (
    id   BIGINT           NOT NULL PRIMARY KEY CHECK (id = 1),
    seq  BIGINT           NOT NULL,
    hash TEXT COLLATE "C" NOT NULL
);

INSERT INTO audit_head (id, seq, hash)
VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');
