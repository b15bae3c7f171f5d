-- +goose NO TRANSACTION
-- +goose Up

-- Each statement commits by itself and locks one table: workers of the version
-- before write these tables in more than one order. Done twice, it does no harm.

-- A second sweep that withdrew an undecided row replaced the first, which then lost sight of it.
alter table results add column if not exists also_withdrawn_by bigint[];
comment on column results.also_withdrawn_by is 'Other sweeps that withdrew the row after withdrawn_by did, while it was undecided; NULL: none. If withdrawn_by is stopped, the first of them takes its place';
create index if not exists results_also_withdrawn on results using gin (also_withdrawn_by) where also_withdrawn_by is not null;

-- It is final with the outcome, as withdrawn_by is: a retry goes by both.
create or replace trigger results_outcome_stands after update on results for each row when (
    old.outcome is not null and new.outcome is not null
    and (old.outcome, old.reason, old.duplicate_of, old.clerk_invitation_id, old.clerk_user_id, old.attempt_id, old.read_id,
         old.decided_at, old.revoke_sent, old.withdrawn_by, old.also_withdrawn_by)
        is distinct from (new.outcome, new.reason, new.duplicate_of, new.clerk_invitation_id, new.clerk_user_id, new.attempt_id, new.read_id,
         new.decided_at, new.revoke_sent, new.withdrawn_by, new.also_withdrawn_by)
) execute function refuse_change('an outcome and its proof are final');

-- Processes of the version before know withdrawn_by alone. Their stop or retry of a row that two sweeps withdrew fails
-- here, instead of inviting a person that the second sweep withdrew. The column is new: nothing to validate.
alter table results drop constraint if exists results_withdrawn_first;
alter table results add constraint results_withdrawn_first check (also_withdrawn_by is null or withdrawn_by is not null) not valid;
