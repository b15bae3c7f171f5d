-- +goose Up

-- A file whose check ends the process, or is never at an end, is not checked for
-- ever. The servers of the version before count nothing.
alter table uploads
    add column checks   smallint not null default 0,
    add column check_at timestamptz;
comment on column uploads.checks is 'How many checks of it were begun and came to no end: the process ended, or they were called off; 0 after one that did';
comment on column uploads.check_at is 'When the last of these was begun; NULL: none was';
