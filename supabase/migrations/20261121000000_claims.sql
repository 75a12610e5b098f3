-- Idempotency keys for every POST, not only for those that start a run: a key claims a run, or a subject (the id of a
-- session, an agent, an environment) together with what was answered.

alter table public.idempotency_keys alter column run_id drop not null;
alter table public.idempotency_keys
  add column subject text check (octet_length(subject) between 1 and 128),
  -- What the first request was told. Null until it is known, which is before the claim commits.
  add column answer jsonb check (jsonb_typeof(answer) = 'object' and pg_column_size(answer) <= 1048576),
  -- One thing each: a key's second use is recognised by what the first one claimed.
  add constraint idempotency_keys_one_claim check (num_nonnulls(run_id, subject) = 1),
  add constraint idempotency_keys_answer_of_subject check (answer is null or subject is not null);

-- As before, and a key that claimed something else than a run is a key of another request.
create or replace function private.claim(of_owner uuid, of_key text, of_hash text, inout of_run uuid, out is_new boolean)
  language plpgsql set search_path = ''
as $$
declare
  held public.idempotency_keys;
begin
  is_new := true;
  if of_key is null then
    return;
  end if;
  insert into public.idempotency_keys (owner, key, request_hash, run_id)
    values (of_owner, of_key, of_hash, of_run)
    on conflict (owner, key) do nothing;
  if found then
    return;
  end if;
  is_new := false;
  select * into strict held from public.idempotency_keys k where k.owner = of_owner and k.key = of_key;
  if held.request_hash <> of_hash or held.run_id is null then
    raise exception using errcode = 'PT409', message = 'idempotency_key_reused', detail = 'the key was used for another request';
  end if;
  of_run := held.run_id;
end;
$$;

-- The request's claim on its key, for a subject. When the same request claimed it before, is_new is false, and subject
-- and answer are those of then. Concurrent claims of one key wait for the first to commit.
-- Raises PT409 idempotency_key_reused.
create function private.claim_subject(
  of_owner uuid, of_key text, of_hash text, inout subject text, out is_new boolean, out answer jsonb
)
  language plpgsql set search_path = ''
as $$
declare
  held public.idempotency_keys;
begin
  is_new := true;
  if of_key is null then
    return;
  end if;
  insert into public.idempotency_keys (owner, key, request_hash, subject)
    values (of_owner, of_key, of_hash, claim_subject.subject)
    on conflict (owner, key) do nothing;
  if found then
    return;
  end if;
  is_new := false;
  select * into strict held from public.idempotency_keys k where k.owner = of_owner and k.key = of_key;
  if held.request_hash <> of_hash or held.subject is null then
    raise exception using errcode = 'PT409', message = 'idempotency_key_reused', detail = 'the key was used for another request';
  end if;
  subject := held.subject;
  answer := held.answer;
end;
$$;

-- What the key's next use is told. Nothing without a key.
create function private.keep_answer(of_owner uuid, of_key text, with_answer jsonb) returns void
  language sql set search_path = ''
  begin atomic
    update public.idempotency_keys k set answer = with_answer where k.owner = of_owner and k.key = of_key;
  end;
