-- +goose Up

-- A retry may take up rejected rows too, where it is asked to.
alter table retries add column outcome text not null default 'failed' constraint retries_outcome check (outcome in ('failed', 'rejected'));
comment on table retries is 'Rows that had ended as failed or rejected and were opened again, as they stood before';
comment on column retries.outcome is 'Its outcome until then';

-- +goose StatementBegin
create or replace function refuse_reopening() returns trigger language plpgsql as $$
begin
    if old.outcome in ('failed', 'rejected') and exists (
        select from retries t where t.batch_id = old.batch_id and t.row_number = old.row_number and t.decided_at = old.decided_at
          and (t.outcome, t.reason, t.attempt_id, t.read_id) is not distinct from (old.outcome, old.reason, old.attempt_id, old.read_id)) then
        return new;
    end if;
    raise exception 'update of results is refused: only a row that failed or was rejected opens again, by a retry that is on record' using errcode = 'integrity_constraint_violation';
end $$;
-- +goose StatementEnd
comment on function refuse_reopening() is 'Refuses to open a decided row again, but for a failed or rejected one that retries has';
