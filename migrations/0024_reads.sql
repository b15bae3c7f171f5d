-- +goose NO TRANSACTION
-- +goose Up

-- Each statement commits by itself and locks one table: workers of the version
-- before write these tables in more than one order. Done twice, it does no harm.

-- Reads guard a batch once its rows can be seen.
alter table batches add column if not exists reads_from timestamptz;
comment on column batches.reads_from is 'Reads that began before this time guard no claim of the batch: its rows may not have been visible to them, so that nothing of its people was kept; NULL: no process that reads has seen the batch yet';

-- Who asks for a whole pass.
create index if not exists reads_pass on reads (coalesce(pass_id, id));

-- What proves an outcome fills once, as attempts do.
create or replace trigger reads_fill_once after update on reads for each row when (
    (old.id, old.instance_id, old.worker_id, old.pass_id, old.call, old.pass_begun_at, old.begun_at)
        is distinct from (new.id, new.instance_id, new.worker_id, new.pass_id, new.call, new.pass_begun_at, new.begun_at)
    or old.ended_at is not null
        and (old.ended_at, old.http_status, old.error_code, old.trace_id, old.items, old.complete, old.reached)
            is distinct from (new.ended_at, new.http_status, new.error_code, new.trace_id, new.items, new.complete, new.reached)
) execute function refuse_change('a read''s columns fill once');

-- Reconciling drops its own reads that showed nothing new, before it ends.
-- +goose StatementBegin
create or replace function refuse_forgetting_read() returns trigger language plpgsql as $$
begin
    if old.call in ('reconcile', 'reconcile_revoked') and exists (
        select from reconciles c where c.instance_id = old.instance_id and c.worker_id = old.worker_id and c.finished_at is null and c.started_at <= old.begun_at) then
        return old;
    end if;
    raise exception 'delete of reads is refused: reads stay for ever' using errcode = 'integrity_constraint_violation';
end $$;
-- +goose StatementEnd
comment on function refuse_forgetting_read() is 'Refuses to delete a read, unless a reconciling that goes on drops its own';
create or replace trigger reads_stay before delete on reads for each row execute function refuse_forgetting_read();
create or replace trigger reads_whole before truncate on reads for each statement execute function refuse_change('reads stay for ever');

-- A sighting follows what later reads show. Its status alone changes where what
-- became of a revoke tells that the invitation is no longer pending.
create or replace trigger sightings_follow_reads after update on sightings for each row when (
    (old.instance_id, old.clerk_id, old.key, old.kind, old.created_at, old.first_read, old.first_seen)
        is distinct from (new.instance_id, new.clerk_id, new.key, new.kind, new.created_at, new.first_read, new.first_seen)
    or old.last_read = new.last_read
        and ((old.expires_at, old.last_seen) is distinct from (new.expires_at, new.last_seen)
            or old.status is distinct from new.status and not (new.kind = 'invitation' and coalesce(new.status in ('revoked', 'accepted', 'expired'), false)))
) execute function refuse_change('what was seen first stays, and what was seen last comes with its read');

-- Sightings go with what the rows of their person said.
-- +goose StatementBegin
create or replace function refuse_forgetting_sighting() returns trigger language plpgsql as $$
begin
    if exists (select from results r where r.key = old.key and r.instance_id = old.instance_id) then
        raise exception 'delete of sightings is refused: they go when their person is erased' using errcode = 'integrity_constraint_violation';
    end if;
    return old;
end $$;
-- +goose StatementEnd
comment on function refuse_forgetting_sighting() is 'Refuses to delete what was seen of a person of whom a row is left';
create or replace trigger sightings_stay before delete on sightings for each row execute function refuse_forgetting_sighting();
create or replace trigger sightings_whole before truncate on sightings for each statement execute function refuse_change('they go when their person is erased');

-- Sightings change, and go when people are erased. A certificate keeps those that
-- its outcomes rely on, as they were at the batch's end, without the person.
create table if not exists certified_sightings (
    batch_id   bigint not null,
    number     integer not null,
    row_number integer not null,
    clerk_id   text not null,
    kind       text not null,
    status     text,
    created_at timestamptz,
    expires_at timestamptz,
    first_read bigint not null,
    first_seen timestamptz not null,
    last_read  bigint not null,
    last_seen  timestamptz not null,
    primary key (batch_id, number, row_number, clerk_id)
);
comment on table certified_sightings is 'What reads had shown of the people whose outcomes a read proves, as a certificate found it';
comment on column certified_sightings.batch_id is 'The batch';
comment on column certified_sightings.number is 'The number of its certificate';
comment on column certified_sightings.row_number is 'The row of the person';
comment on column certified_sightings.clerk_id is 'As in sightings';
comment on column certified_sightings.kind is 'As in sightings';
comment on column certified_sightings.status is 'As in sightings';
comment on column certified_sightings.created_at is 'As in sightings';
comment on column certified_sightings.expires_at is 'As in sightings';
comment on column certified_sightings.first_read is 'As in sightings';
comment on column certified_sightings.first_seen is 'As in sightings';
comment on column certified_sightings.last_read is 'As in sightings';
comment on column certified_sightings.last_seen is 'As in sightings';
create or replace trigger certified_sightings_stand before update or delete on certified_sightings for each row execute function refuse_change('certificates are only added');
create or replace trigger certified_sightings_whole before truncate on certified_sightings for each statement execute function refuse_change('certificates are only added');

alter table certificates
    add column if not exists format smallint not null default 1,
    add column if not exists reads integer not null default 0,
    add column if not exists sightings integer not null default 0;
comment on column certificates.format is '1: the chain has the batch, its rows and attempts; 2: also the reads that prove outcomes, and what they showed';
comment on column certificates.reads is 'How many reads are in the chain';
comment on column certificates.sightings is 'How many sightings are in the chain';

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
        buckets, leases, workers, events, retries, certificates, certified_sightings, erasures, erased_people, audit_rows, audit_requests to bulkinvite_auditor;
    execute format('grant usage on schema %I to bulkinvite_auditor', current_schema());
end $$;
-- +goose StatementEnd
select grant_auditor();
