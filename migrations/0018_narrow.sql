-- +goose NO TRANSACTION
-- +goose Up

-- Each statement commits by itself and locks one table: workers of the version
-- before write these tables in more than one order. Done twice, it does no harm.

-- Evidence is guarded after the update, which is refused all the same. Before it,
-- each row was locked for the guard, and the lock was written to the log.
create or replace trigger attempts_fill_once after update on attempts for each row when (
    (old.id, old.instance_id, old.bucket, old.call, old.worker_id, old.sweep_id, old.under, old.started_at, old.deadline)
        is distinct from (new.id, new.instance_id, new.bucket, new.call, new.worker_id, new.sweep_id, new.under, new.started_at, new.deadline)
    or (old.answered_at is not null or old.resolved_at is not null) -- what was settled by reading gets no answer
        and (old.answered_at, old.http_status, old.error_code, old.trace_id) is distinct from (new.answered_at, new.http_status, new.error_code, new.trace_id)
    or old.resolved_at is not null and (old.resolved_at, old.resolution) is distinct from (new.resolved_at, new.resolution)
) execute function refuse_change('an attempt''s columns fill once');
create or replace trigger attempt_people_fill_once after update on attempt_people for each row when (
    (old.attempt_id, old.instance_id, old.batch_id, old.row_number) is distinct from (new.attempt_id, new.instance_id, new.batch_id, new.row_number)
    or old.key <> new.key and (old.open or old.key like 'erased:%' or new.key !~ '^erased:[0-9a-f]{64}$')
    or new.open and not old.open
    or old.open and not new.open and (new.closed_at is null or new.resolution is null)
    or old.answer is not null and (old.answer, old.error_code) is distinct from (new.answer, new.error_code)
    or old.clerk_invitation_id is not null and old.clerk_invitation_id is distinct from new.clerk_invitation_id
    or old.closed_at is not null and (old.closed_at, old.resolution) is distinct from (new.closed_at, new.resolution)
) execute function refuse_change('what is known of an attempt''s person fills once');
create or replace trigger results_outcome_stands after update on results for each row when (
    old.outcome is not null and new.outcome is not null
    and (old.outcome, old.reason, old.duplicate_of, old.clerk_invitation_id, old.clerk_user_id, old.attempt_id, old.read_id, old.decided_at, old.revoke_sent, old.withdrawn_by)
        is distinct from (new.outcome, new.reason, new.duplicate_of, new.clerk_invitation_id, new.clerk_user_id, new.attempt_id, new.read_id, new.decided_at, new.revoke_sent, new.withdrawn_by)
) execute function refuse_change('an outcome and its proof are final');
create or replace trigger results_reopened after update on results for each row when (old.outcome is not null and new.outcome is null) execute function refuse_reopening();
create or replace trigger results_file_stands after update of batch_id, row_number, instance_id, line, original, email, key, redirect_url, expires_in_days, public_metadata, notes, revoke_on, erased_by, private_hash
on results for each row when (
    (old.batch_id, old.row_number, old.instance_id, old.line, old.expires_in_days, old.revoke_on) is distinct from (new.batch_id, new.row_number, new.instance_id, new.line, new.expires_in_days, new.revoke_on)
    or (old.original, old.email, old.key, old.redirect_url, old.public_metadata, old.notes, old.erased_by, old.private_hash)
            is distinct from (new.original, new.email, new.key, new.redirect_url, new.public_metadata, new.notes, new.erased_by, new.private_hash)
        and not (old.erased_by is null and new.erased_by is not null and new.outcome is not null and new.private_hash is not null
            and new.original = '{}' and new.email is null and (new.key is null and old.key is null or new.key ~ '^erased:[0-9a-f]{64}$')
            and new.redirect_url is null and new.public_metadata is null and new.notes is null)
) execute function refuse_change('what the file said stays as it was, or is erased as a whole');

-- A claim takes out of the ledger what it has put there itself: an update of an
-- older row in the same transaction makes it no claim's.
-- +goose StatementBegin
create or replace function refuse_forgetting() returns trigger language plpgsql as $$
begin
    if exists (select from attempts a where a.id = old.attempt_id and a.started_at < transaction_timestamp()) then
        raise exception 'delete of % is refused: attempts stay for ever', tg_table_name using errcode = 'integrity_constraint_violation';
    end if;
    return old;
end $$;
-- +goose StatementEnd
comment on function refuse_forgetting() is 'Refuses to delete what is known of an attempt''s person, unless it is the claim''s own';
create or replace trigger attempts_stay before delete on attempts for each row when (
    old.xmin <> pg_current_xact_id()::xid or old.started_at < transaction_timestamp()
) execute function refuse_change('attempts stay for ever');
create or replace trigger attempt_people_remain before delete on attempt_people for each row execute function refuse_forgetting();

-- A trace id is looked up whole, and an open attempt among the few that are.
drop index if exists attempts_trace;
create index attempts_trace on attempts using hash (trace_id) where trace_id is not null;
drop index if exists attempts_open;
create index attempts_open on attempts (id) where resolved_at is null;

-- Each row is written twice, and each time into these two: there is room for both
-- from the start, where a page would have to be divided.
alter index results_key set (fillfactor = 70);
alter index results_pkey set (fillfactor = 55);

-- Room that was kept for a row's next version was not used: the rows of a page are
-- answered at about the same moment. What earlier versions leave, a vacuum finds.
alter table results reset (fillfactor);

-- What an answer adds is less log where it finds its place beside what it is
-- added to: for a tenth of them, and no more, since that room is lost to others.
alter table attempts set (fillfactor = 90);
alter table attempt_people set (fillfactor = 90);

-- As those of 0016: nobody lists jobs by their kind.
drop index if exists river_job_kind;
