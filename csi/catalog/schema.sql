-- One pool's catalog. Sizes are bytes, times nanoseconds since the epoch.
-- A change of this file needs a new user_version and a migration in database.py.

CREATE TABLE pool (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    pool_id   TEXT    NOT NULL,
    -- Thin ids below the ceiling are reserved. The kernel keeps the same number as the pool's transaction id, raised
    -- right after this row: a catalog whose ceiling lies below the kernel's number is older than the pool.
    ceiling   INTEGER NOT NULL,
    -- The ceiling that the kernel is known to have had: a pool below it has lost metadata.
    covered   INTEGER NOT NULL,
    next_id   INTEGER NOT NULL,
    block_size INTEGER NOT NULL,
    -- Kept by the triggers below, so that capacity needs no scan.
    volumes   INTEGER NOT NULL DEFAULT 0,
    snapshots INTEGER NOT NULL DEFAULT 0,
    deleting  INTEGER NOT NULL DEFAULT 0,
    strangers INTEGER NOT NULL DEFAULT 0,
    templates INTEGER NOT NULL DEFAULT 0,
    virtual   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE snapshot_group (
    group_id INTEGER PRIMARY KEY,
    name     TEXT    NOT NULL UNIQUE,
    -- The thin ids of the sources in the order of the request, for recognising a repeated one.
    sources  TEXT    NOT NULL,
    created  INTEGER NOT NULL,
    -- 1 once every member is known to be cut at one point in time.
    cut      INTEGER NOT NULL
) STRICT;

-- From here to the end all is about this table: a migration makes it anew (database.py).
CREATE TABLE device (
    thin_id        INTEGER PRIMARY KEY,
    kind           TEXT    NOT NULL CHECK (kind IN ('volume', 'snapshot', 'template', 'quarantined')),
    state          TEXT    NOT NULL CHECK (state IN ('creating', 'cutting', 'ready', 'deleting', 'lost')),
    name           TEXT,
    size           INTEGER NOT NULL,
    origin         INTEGER,
    content_source TEXT    NOT NULL,
    group_id       INTEGER REFERENCES snapshot_group (group_id),
    fs_state       TEXT    NOT NULL,
    fs_type        TEXT,
    fs_unique      INTEGER NOT NULL,
    mkfs_profile   TEXT    NOT NULL,
    ephemeral      INTEGER NOT NULL,
    created        INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX device_name ON device (kind, ephemeral, name) WHERE name IS NOT NULL;
CREATE INDEX device_deleting ON device (thin_id) WHERE state = 'deleting';
CREATE INDEX device_group ON device (group_id) WHERE group_id IS NOT NULL;

CREATE TRIGGER device_added AFTER INSERT ON device BEGIN
    UPDATE pool SET
        volumes   = volumes   + (NEW.kind = 'volume'      AND NEW.state <> 'deleting'),
        snapshots = snapshots + (NEW.kind = 'snapshot'    AND NEW.state <> 'deleting'),
        strangers = strangers + (NEW.kind = 'quarantined' AND NEW.state <> 'deleting'),
        templates = templates + (NEW.kind = 'template'    AND NEW.state <> 'deleting'),
        deleting  = deleting  + (NEW.state = 'deleting'),
        virtual   = virtual   + NEW.size * (NEW.kind = 'volume' AND NEW.state <> 'deleting');
END;

CREATE TRIGGER device_removed AFTER DELETE ON device BEGIN
    UPDATE pool SET
        volumes   = volumes   - (OLD.kind = 'volume'      AND OLD.state <> 'deleting'),
        snapshots = snapshots - (OLD.kind = 'snapshot'    AND OLD.state <> 'deleting'),
        strangers = strangers - (OLD.kind = 'quarantined' AND OLD.state <> 'deleting'),
        templates = templates - (OLD.kind = 'template'    AND OLD.state <> 'deleting'),
        deleting  = deleting  - (OLD.state = 'deleting'),
        virtual   = virtual   - OLD.size * (OLD.kind = 'volume' AND OLD.state <> 'deleting');
END;

CREATE TRIGGER device_changed AFTER UPDATE OF kind, state, size ON device
WHEN OLD.kind <> NEW.kind OR OLD.size <> NEW.size OR (OLD.state = 'deleting') <> (NEW.state = 'deleting') BEGIN
    UPDATE pool SET
        volumes   = volumes   + (NEW.kind = 'volume'      AND NEW.state <> 'deleting') - (OLD.kind = 'volume'      AND OLD.state <> 'deleting'),
        snapshots = snapshots + (NEW.kind = 'snapshot'    AND NEW.state <> 'deleting') - (OLD.kind = 'snapshot'    AND OLD.state <> 'deleting'),
        strangers = strangers + (NEW.kind = 'quarantined' AND NEW.state <> 'deleting') - (OLD.kind = 'quarantined' AND OLD.state <> 'deleting'),
        templates = templates + (NEW.kind = 'template'    AND NEW.state <> 'deleting') - (OLD.kind = 'template'    AND OLD.state <> 'deleting'),
        deleting  = deleting  + (NEW.state = 'deleting') - (OLD.state = 'deleting'),
        virtual   = virtual   + NEW.size * (NEW.kind = 'volume' AND NEW.state <> 'deleting')
                              - OLD.size * (OLD.kind = 'volume' AND OLD.state <> 'deleting');
END;
