-- +goose Up

-- The drift that stands is read in pages, the newest first: without this index each
-- page would sort all of it again.
create index drift_newest on drift (first_seen, clerk_invitation_id, kind, instance_id) where ended_at is null;
