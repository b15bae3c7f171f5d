-- +goose Up

-- What a retry has opened again, as it stood before: the certificates of then
-- still hold by it.
create table retries (
    id         bigint generated always as identity primary key,
    batch_id   bigint not null,
    row_number integer not null,
    retried_at timestamptz not null default clock_timestamp(),
    reason     text,
    attempt_id bigint,
    read_id    bigint,
    decided_at timestamptz not null,
    foreign key (batch_id, row_number) references results (batch_id, row_number)
);
create index retries_row on retries (batch_id, row_number, id);
comment on table retries is 'Rows that had ended as failed and were opened again, as they stood before';
comment on column retries.id is 'Its number';
comment on column retries.batch_id is 'The batch of the row';
comment on column retries.row_number is 'The row';
comment on column retries.retried_at is 'When it was opened again';
comment on column retries.reason is 'Its reason until then';
comment on column retries.attempt_id is 'Its attempt_id until then';
comment on column retries.read_id is 'Its read_id until then';
comment on column retries.decided_at is 'Its decided_at until then';

create table certificates (
    batch_id     bigint not null references batches,
    number       integer not null,
    made_at      timestamptz not null,
    rows         integer not null,
    outcomes     jsonb not null,
    attempts     integer not null,
    last_attempt bigint not null,
    last_retry   bigint not null,
    checkpoints  bytea[] not null,
    head         bytea not null unique,
    primary key (batch_id, number)
);
comment on table certificates is 'What a batch came to at its end, with a hash chain over its rows and attempts';
comment on column certificates.batch_id is 'The batch';
comment on column certificates.number is '1 for the first end of the batch; one more for each end after a retry';
comment on column certificates.made_at is 'When it was made';
comment on column certificates.rows is 'How many rows are in the chain: all of the batch';
comment on column certificates.outcomes is 'How many rows ended with each outcome';
comment on column certificates.attempts is 'How many records of attempts are in the chain: one for each attempt and person of the batch';
comment on column certificates.last_attempt is 'The last attempt in the chain; 0: none';
comment on column certificates.last_retry is 'The last retry (retries.id) of the batch before it; 0: none';
comment on column certificates.checkpoints is 'The chain after each thousand row numbers, so that it can be said where something differs';
comment on column certificates.head is 'The end of the chain (SHA-256); it proves something where it is also kept outside of this database';

alter table batches add column certificate integer;
comment on column batches.certificate is 'The certificate of the batch''s end; NULL: it has not ended, or its certificate is still to be made';
create index batches_uncertified on batches (instance_id) where finished_at is not null and certificate is null;

-- The key of the hashes that stay of what is erased, and of the hashes of rows'
-- private cells in the chains.
create table hash_key (
    one   boolean primary key default true check (one),
    value bytea not null check (length(value) = 32)
);
insert into hash_key (value) select sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'));
comment on table hash_key is 'The key of the hashes of people and of rows'' private cells; made with the database, and in no other place';
comment on column hash_key.one is 'There is one';
comment on column hash_key.value is '32 random bytes';

-- Each time that people were erased.
create table erasures (
    id         bigint generated always as identity primary key,
    at         timestamptz not null default clock_timestamp(),
    kind       text not null check (kind in ('erase', 'purge')),
    actor      text not null,
    older_than interval
);
comment on table erasures is 'Each time that addresses, names and original rows were removed';
comment on column erasures.id is 'Its number';
comment on column erasures.at is 'When';
comment on column erasures.kind is 'erase: one person, who is not to be invited again; purge: everybody in batches that ended long ago';
comment on column erasures.actor is 'Who asked; bulkinvite: the retention that workers keep';
comment on column erasures.older_than is 'Of a purge: how long ago batches had to have ended';

create table erased_people (
    hash       text primary key,
    erasure_id bigint not null references erasures,
    lifted_by  bigint references batches
);
comment on table erased_people is 'The people who were erased, by keyed hash: later files don''t invite them';
comment on column erased_people.hash is 'What stands for the person in results.key: "erased:" and HMAC-SHA256 of the key, in hex';
comment on column erased_people.erasure_id is 'When and by whom: erasures.id';
comment on column erased_people.lifted_by is 'The batch that invited the person all the same (--include-erased); from then on they are a person like others. NULL: none';

alter table results
    add column erased_by    bigint references erasures,
    add column private_hash bytea;
comment on column results.erased_by is 'The erasure that removed the row''s private cells; NULL: they are there';
comment on column results.private_hash is 'HMAC-SHA256 of the private cells that were there, which the certificates'' chains hold; NULL: it is worked out from the cells';

alter table batches add column purged_by bigint references erasures;
comment on column batches.purged_by is 'The purge that removed the private cells of all rows; NULL: none did';

-- Who asks by a request's trace id.
create index attempts_trace on attempts (trace_id) where trace_id is not null;
create index late_answers_trace on late_answers (trace_id) where trace_id is not null;
create index batches_actor on batches (actor);

-- Evidence fills once. Whoever owns the tables could take these triggers away:
-- against that stand the certificates, whose heads are kept elsewhere. They only
-- look at what an update changes, in C, and call a function to refuse it.

-- +goose StatementBegin
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% of % is refused: %', lower(tg_op), tg_table_name, tg_argv[0] using errcode = 'integrity_constraint_violation';
end $$;
-- +goose StatementEnd
comment on function refuse_change() is 'Refuses a change of evidence';

create trigger events_stand before update or delete on events for each row execute function refuse_change('events are only added');
create trigger events_whole before truncate on events for each statement execute function refuse_change('events are only added');

create trigger attempts_fill_once before update on attempts for each row when (
    (old.id, old.instance_id, old.bucket, old.call, old.worker_id, old.sweep_id, old.under, old.started_at, old.deadline)
        is distinct from (new.id, new.instance_id, new.bucket, new.call, new.worker_id, new.sweep_id, new.under, new.started_at, new.deadline)
    or old.answered_at is not null
        and (old.answered_at, old.http_status, old.error_code, old.trace_id) is distinct from (new.answered_at, new.http_status, new.error_code, new.trace_id)
    or old.resolved_at is not null and (old.resolved_at, old.resolution) is distinct from (new.resolved_at, new.resolution)
) execute function refuse_change('an attempt''s columns fill once');
-- A claim takes what it has not committed out of the ledger again.
create trigger attempts_stay before delete on attempts for each row when (old.xmin <> pg_current_xact_id()::xid) execute function refuse_change('attempts stay for ever');
create trigger attempts_whole before truncate on attempts for each statement execute function refuse_change('attempts stay for ever');

create trigger attempt_people_fill_once before update on attempt_people for each row when (
    (old.attempt_id, old.instance_id, old.batch_id, old.row_number) is distinct from (new.attempt_id, new.instance_id, new.batch_id, new.row_number)
    or old.key <> new.key and (old.open or old.key like 'erased:%' or new.key !~ '^erased:[0-9a-f]{64}$')
    or new.open and not old.open
    or old.answer is not null and (old.answer, old.error_code) is distinct from (new.answer, new.error_code)
    or old.clerk_invitation_id is not null and old.clerk_invitation_id is distinct from new.clerk_invitation_id
    or old.closed_at is not null and (old.closed_at, old.resolution) is distinct from (new.closed_at, new.resolution)
) execute function refuse_change('what is known of an attempt''s person fills once');
create trigger attempt_people_stay before delete on attempt_people for each row when (old.xmin <> pg_current_xact_id()::xid) execute function refuse_change('attempts stay for ever');
create trigger attempt_people_whole before truncate on attempt_people for each statement execute function refuse_change('attempts stay for ever');

create trigger late_answers_stand before update or delete on late_answers for each row execute function refuse_change('late answers are only added');
create trigger late_answers_whole before truncate on late_answers for each statement execute function refuse_change('late answers are only added');

-- An outcome is final; only failed opens again, and only on the record.
create trigger results_outcome_stands before update on results for each row when (
    old.outcome is not null and new.outcome is not null
    and (old.outcome, old.reason, old.duplicate_of, old.clerk_invitation_id, old.clerk_user_id, old.attempt_id, old.read_id, old.decided_at, old.revoke_sent, old.withdrawn_by)
        is distinct from (new.outcome, new.reason, new.duplicate_of, new.clerk_invitation_id, new.clerk_user_id, new.attempt_id, new.read_id, new.decided_at, new.revoke_sent, new.withdrawn_by)
) execute function refuse_change('an outcome and its proof are final');

-- +goose StatementBegin
create function refuse_reopening() returns trigger language plpgsql as $$
begin
    if old.outcome = 'failed' and exists (
        select from retries t where t.batch_id = old.batch_id and t.row_number = old.row_number and t.decided_at = old.decided_at
          and (t.reason, t.attempt_id, t.read_id) is not distinct from (old.reason, old.attempt_id, old.read_id)) then
        return new;
    end if;
    raise exception 'update of results is refused: only a row that failed opens again, by a retry that is on record' using errcode = 'integrity_constraint_violation';
end $$;
-- +goose StatementEnd
comment on function refuse_reopening() is 'Refuses to open a decided row again, but for a failed one that retries has';
create trigger results_reopened before update on results for each row when (old.outcome is not null and new.outcome is null) execute function refuse_reopening();

-- What the file said stays; an erasure leaves its hash.
create trigger results_file_stands before update of batch_id, row_number, instance_id, line, original, email, key, redirect_url, expires_in_days, public_metadata, notes, revoke_on, erased_by, private_hash
on results for each row when (
    (old.batch_id, old.row_number, old.instance_id, old.line, old.expires_in_days, old.revoke_on) is distinct from (new.batch_id, new.row_number, new.instance_id, new.line, new.expires_in_days, new.revoke_on)
    or (old.original, old.email, old.key, old.redirect_url, old.public_metadata, old.notes, old.erased_by, old.private_hash)
            is distinct from (new.original, new.email, new.key, new.redirect_url, new.public_metadata, new.notes, new.erased_by, new.private_hash)
        and not (old.erased_by is null and new.erased_by is not null and new.outcome is not null and new.private_hash is not null
            and new.original = '{}' and new.email is null and (new.key is null and old.key is null or new.key ~ '^erased:[0-9a-f]{64}$')
            and new.redirect_url is null and new.public_metadata is null and new.notes is null)
) execute function refuse_change('what the file said stays as it was, or is erased as a whole');

-- Rows of a draft go where its file is read in another way; others never.
-- +goose StatementBegin
create function refuse_row_deletion() returns trigger language plpgsql as $$
begin
    if exists (select from (select distinct batch_id from gone) g join batches b on b.id = g.batch_id and b.state <> 'draft') then
        raise exception 'delete from results is refused: rows stay for ever, but for those of a draft' using errcode = 'integrity_constraint_violation';
    end if;
    return null;
end $$;
-- +goose StatementEnd
comment on function refuse_row_deletion() is 'Refuses to delete rows but of a draft';
create trigger results_stay after delete on results referencing old table as gone for each statement execute function refuse_row_deletion();
create trigger results_whole before truncate on results for each statement execute function refuse_change('rows stay for ever');

create trigger batches_file_stands before update on batches for each row when (
    old.id <> new.id or old.state <> 'draft' and new.state = 'draft'
    or old.state <> 'draft'
        and (old.instance_id, old.file_name, old.file_sha256, old.file_bytes, old.columns, old.actor, old.rows, old.blank, old.created_at, old.started_at, old.resend_of, old.corrects, old.corrects_row)
            is distinct from (new.instance_id, new.file_name, new.file_sha256, new.file_bytes, new.columns, new.actor, new.rows, new.blank, new.created_at, new.started_at, new.resend_of, new.corrects, new.corrects_row)
) execute function refuse_change('what a started batch was made of stays as it was');
create trigger batches_stay before delete on batches for each row execute function refuse_change('batches stay for ever');
create trigger batches_whole before truncate on batches for each statement execute function refuse_change('batches stay for ever');

create trigger certificates_stand before update or delete on certificates for each row execute function refuse_change('certificates are only added');
create trigger certificates_whole before truncate on certificates for each statement execute function refuse_change('certificates are only added');
create trigger retries_stand before update or delete on retries for each row execute function refuse_change('retries are only added');
create trigger retries_whole before truncate on retries for each statement execute function refuse_change('retries are only added');
create trigger erasures_stand before update or delete on erasures for each row execute function refuse_change('erasures are only added');
create trigger erasures_whole before truncate on erasures for each statement execute function refuse_change('erasures are only added');
