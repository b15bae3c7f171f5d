-- +goose NO TRANSACTION
-- +goose Up

-- Each statement commits by itself and locks one table: workers of the version
-- before write these tables in more than one order. Done twice, it does no harm.

-- Rows of a large table are checked without keeping anybody waiting; those that are
-- there satisfy the narrower constraint anyway.
alter table results
    drop constraint if exists results_status_check,
    add constraint results_status_check check (status in ('pending', 'accepted', 'revoked', 'expired', 'gone')) not valid;
alter table results validate constraint results_status_check;

alter table reads
    drop constraint if exists reads_call_check,
    add constraint reads_call_check check (call in (
        'users', 'invitations', 'invitations_pending', 'invitations_revoked', 'reconcile', 'reconcile_revoked', 'by_id', 'by_id_revoked')) not valid;
alter table reads validate constraint reads_call_check;

alter table reconciles add column if not exists deleted integer not null default 0;
comment on column reconciles.deleted is 'Rows whose invitation it found deleted at Clerk';
