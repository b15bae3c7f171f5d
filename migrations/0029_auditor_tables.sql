-- +goose Up

-- docs/audit.md promises auditors every table of that page except sessions, tokens, uploads and the hash key. The role
-- could not read task_leases, previews and draft_withdrawals.
-- +goose StatementBegin
create or replace function grant_auditor() returns void language plpgsql as $$
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
        buckets, leases, workers, events, retries, certificates, certified_sightings, erasures, erased_people, task_leases,
        previews, draft_withdrawals, audit_rows, audit_requests to bulkinvite_auditor;
    execute format('grant usage on schema %I to bulkinvite_auditor', current_schema());
end $$;
-- +goose StatementEnd
select grant_auditor();
