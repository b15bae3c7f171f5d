-- +goose Up

-- The file's own columns beside ours, for questions by department and the like.
create view audit_rows as
select r.batch_id, r.row_number, r.line, r.email, r.key, r.outcome, r.reason, r.duplicate_of, r.status, r.status_at, r.clerk_invitation_id, r.clerk_user_id,
       r.decided_at, r.invited_at, r.expires_at, r.attempt_id, r.read_id, r.erased_by,
       b.actor, b.file_name, b.created_at as imported_at, i.environment,
       (select jsonb_object_agg(c.name, r.original[c.n]) from unnest(b.columns) with ordinality c (name, n) where c.name <> '') as cells
from results r join batches b on b.id = r.batch_id join instances i on i.id = r.instance_id;
comment on view audit_rows is 'results with who sent the file, whom to, and the row''s cells by the file''s own column names';

create view audit_requests as
select a.id as attempt_id, p.batch_id, p.row_number, p.key, a.call, a.worker_id, a.started_at, a.answered_at, a.http_status,
       coalesce(p.error_code, a.error_code) as error_code, a.trace_id, p.answer, p.clerk_invitation_id, p.closed_at, p.resolution,
       a.sweep_id, s.started_by as asked_by, i.environment
from attempts a join attempt_people p on p.attempt_id = a.id join instances i on i.id = a.instance_id left join sweeps s on s.id = a.sweep_id;
comment on view audit_requests is 'Each request that could change something at Clerk, once for each person in it, with what came of it';

-- A role that reads what audits read, and no session, token, upload or key. Roles
-- belong to the server, not to the database: another database may make it at the
-- same moment, and whoever migrates may not be allowed to.
-- +goose StatementBegin
create function grant_auditor() returns void language plpgsql as $$
begin
    if not exists (select from pg_roles where rolname = 'bulkinvite_auditor') then
        begin
            create role bulkinvite_auditor nologin;
        exception
            when duplicate_object or unique_violation then null;
            when insufficient_privilege then
                raise warning 'the role bulkinvite_auditor is missing, and % may not create roles', current_user
                    using hint = 'as somebody who may: create role bulkinvite_auditor nologin; then, as the owner of the tables: select grant_auditor();';
                return;
        end;
    end if;
    grant select on instances, batches, results, attempts, attempt_people, late_answers, reads, sightings, sweeps, revocations, schedules, reconciles, drift,
        buckets, leases, workers, events, retries, certificates, erasures, erased_people, audit_rows, audit_requests to bulkinvite_auditor;
    execute format('grant usage on schema %I to bulkinvite_auditor', current_schema());
end $$;
-- +goose StatementEnd
comment on function grant_auditor() is 'Makes the role bulkinvite_auditor, where it is missing, and lets it read what audits read';
revoke execute on function grant_auditor() from public;
select grant_auditor();
