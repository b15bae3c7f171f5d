-- +goose NO TRANSACTION
-- +goose Up

-- Each statement commits by itself, and done twice it does no harm.

-- Names of time zones are another program's data: PostgreSQL may forget one with an
-- upgrade. An error would end every statement that looks at the batch, and with
-- it every claim of the instance.
-- +goose StatementBegin
create or replace function wall_clock(zone text) returns timestamp language plpgsql as $$
begin
    return clock_timestamp() at time zone zone;
exception when invalid_parameter_value then
    return null;
end $$;
-- +goose StatementEnd
comment on function wall_clock(text) is 'The time of day in a time zone; NULL: PostgreSQL does not know the zone';

alter table batches drop constraint if exists batches_paused_by_check,
    add constraint batches_paused_by_check check (paused_by in ('person', 'canary', 'breaker', 'clerk', 'zone'));
comment on column batches.paused_by is 'Who or what paused the batch: a person; its canary, which wants a look; the breaker, after too many refusals; clerk, which refuses every invitation; zone, since PostgreSQL does not know the time zone of its hours; NULL: it is not paused';

alter table batches add column if not exists confirmed_at timestamptz;
comment on column batches.confirmed_at is 'When a person confirmed what sending it takes; a change of the draft takes that back; NULL: nobody has, so that starting it asks';
-- The drafts that are there and did not come by the page or the API came by
-- import --draft, which asks.
update batches b set confirmed_at = created_at
where state = 'draft' and confirmed_at is null and not exists (select from uploads u where u.batch_id = b.id)
  and not exists (select from events e where e.batch_id = b.id and e.action = 'set');
