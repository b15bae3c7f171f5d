-- +goose NO TRANSACTION
-- +goose Up

-- Each statement commits by itself, and done twice, it does no harm.

-- Earlier versions let a retry open rows that a sweep had withdrawn, and left them withdrawn. No worker claims such a
-- row, and no sweep that has ended follows it, so its batch never ended. Each such row ends now as its sweep would have
-- ended it. If the sweep was stopped, the retry was right: the row waits again, as after the stop.
update results r set withdrawn_by = null
from sweeps s
where s.id = r.withdrawn_by and s.finished_at is not null and r.outcome is null
  and exists (select from events e where e.action = 'sweep_stopped' and (e.details->>'sweep')::bigint = s.id);

-- A row with an open request is decided when that is resolved.
with stuck as (
    select r.batch_id, r.row_number from results r join sweeps s on s.id = r.withdrawn_by
    where s.finished_at is not null and r.outcome is null
      and not exists (select from attempt_people p where (p.batch_id, p.row_number) = (r.batch_id, r.row_number) and p.open)
    order by r.batch_id, r.row_number for no key update of r)
update results r set outcome = 'cancelled', reason = 'withdrawn', decided_at = clock_timestamp(), not_before = null
from stuck t where r.batch_id = t.batch_id and r.row_number = t.row_number;
