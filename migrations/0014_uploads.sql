-- +goose Up

-- What a key's second request is held against, and how an upload that died is
-- told from one that comes slowly.
alter table uploads
    add column sha256  bytea,
    add column sent    jsonb not null default '{}',
    add column came_at timestamptz not null default clock_timestamp();
comment on column uploads.sha256 is 'SHA-256 of the file as it was sent; NULL: it is coming';
comment on column uploads.sent is 'Its options as they were first sent';
comment on column uploads.came_at is 'When something of it came last';
