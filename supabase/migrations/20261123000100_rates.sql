-- How often one owner may: a token bucket for each kind of request that changes something. It holds a minute's requests and
-- is refilled all the time, by the database's clock. Requests that are refused, or answered to their key, cost nothing.

create table private.rate_buckets (
  owner uuid not null references auth.users (id) on delete cascade,
  class text not null check (class in ('submit', 'message', 'other')),
  -- What was left after the last request, at that time. It never goes below nothing: that request is rolled back.
  tokens double precision not null check (tokens >= 0),
  refilled_at timestamptz not null default clock_timestamp(),
  primary key (owner, class)
) with (fillfactor = 50); -- changed by every request: room for HOT updates

-- Requests a minute.
create function private.rate_of(of_owner uuid, of_class text) returns integer
  language sql stable set search_path = ''
  return (
    select case of_class when 'submit' then l.submits_per_minute when 'message' then l.messages_per_minute else l.others_per_minute end
    from private.limits_of(of_owner) l
  );

-- What the bucket holds now. Never more than a minute's requests, also where the limit was lowered since.
create function private.refilled(bucket private.rate_buckets, per_minute integer) returns double precision
  language sql volatile set search_path = ''
  return least(
    per_minute,
    bucket.tokens + greatest(0, extract(epoch from clock_timestamp() - bucket.refilled_at)) * per_minute / 60.0
  );

-- Takes one request out of the owner's bucket. Raises PT429 rate_limited: the detail is in how many seconds the next one
-- may come, the hint how many a minute may.
create function private.spend_request(of_owner uuid, of_class text) returns void
  language plpgsql set search_path = ''
as $$
declare
  per_minute integer := private.rate_of(of_owner, of_class);
  bucket private.rate_buckets;
  held double precision;
begin
  insert into private.rate_buckets (owner, class, tokens) values (of_owner, of_class, per_minute)
    on conflict on constraint rate_buckets_pkey do nothing;
  select * into strict bucket from private.rate_buckets b where b.owner = of_owner and b.class = of_class for no key update;
  held := private.refilled(bucket, per_minute);
  if held < 1 then
    raise exception using
      errcode = 'PT429', message = 'rate_limited',
      detail = ceil((1 - held) * 60 / per_minute)::text, hint = per_minute::text;
  end if;
  update private.rate_buckets b
    set tokens = held - 1, refilled_at = greatest(b.refilled_at, clock_timestamp())
    where b.owner = of_owner and b.class = of_class;
end;
$$;

-- Claims a key for a run or for a subject: null when the claim is new, which is one request of the owner's; else what the same
-- request claimed before, which costs nothing. Without a key every claim is new. Concurrent claims of one key wait for the
-- first to commit. Raises PT409 idempotency_key_reused, PT429 rate_limited.
create function private.claim_key(of_owner uuid, of_key text, of_hash text, of_run uuid, of_subject text, of_class text)
  returns public.idempotency_keys
  language plpgsql set search_path = ''
as $$
declare
  held public.idempotency_keys;
  is_new boolean := of_key is null;
begin
  if not is_new then
    insert into public.idempotency_keys (owner, key, request_hash, run_id, subject)
      values (of_owner, of_key, of_hash, of_run, of_subject)
      on conflict (owner, key) do nothing;
    is_new := found;
  end if;
  if is_new then
    perform private.spend_request(of_owner, of_class);
    return null;
  end if;
  select * into strict held from public.idempotency_keys k where k.owner = of_owner and k.key = of_key;
  if held.request_hash <> of_hash or (held.run_id is null) <> (of_run is null) then
    raise exception using errcode = 'PT409', message = 'idempotency_key_reused', detail = 'the key was used for another request';
  end if;
  return held;
end;
$$;

-- As before, counted as a request of the class. Raises as claim_key.
drop function private.claim(uuid, text, text, uuid);
create function private.claim(
  of_owner uuid, of_key text, of_hash text, inout of_run uuid, of_class text default 'other', out is_new boolean
)
  language plpgsql set search_path = ''
as $$
declare
  held public.idempotency_keys := private.claim_key(of_owner, of_key, of_hash, of_run, null, of_class);
begin
  is_new := held.key is null;
  of_run := coalesce(held.run_id, of_run);
end;
$$;

-- The same for a subject, whose answer is as before.
drop function private.claim_subject(uuid, text, text, text);
create function private.claim_subject(
  of_owner uuid, of_key text, of_hash text, inout subject text, of_class text default 'other',
  out is_new boolean, out answer jsonb
)
  language plpgsql set search_path = ''
as $$
declare
  held public.idempotency_keys := private.claim_key(of_owner, of_key, of_hash, null, subject, of_class);
begin
  is_new := held.key is null;
  subject := coalesce(held.subject, subject);
  answer := held.answer;
end;
$$;

-- As before; counted as a submit, with events or without. Raises PT429 rate_limited and too_many_sandboxes as well.
create or replace function public.create_session_v1(
  agent jsonb,
  environment_id text,
  environment jsonb,
  request_hash text,
  idempotency_key text default null,
  title text default null,
  metadata jsonb default '{}',
  resources jsonb default '[]',
  secrets jsonb default '{}',
  budget_microusd bigint default null,
  events jsonb default '[]',
  attachments jsonb default '[]',
  limit_seconds integer default null
) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  claim record;
  session public.agent_sessions;
  told jsonb;
begin
  select * into claim from private.claim_subject(
    caller, create_session_v1.idempotency_key, create_session_v1.request_hash, gen_random_uuid()::text, 'submit'
  );
  if not claim.is_new then
    session := private.lock_session(claim.subject::uuid, caller);
    told := private.replay_input(session, create_session_v1.idempotency_key, create_session_v1.limit_seconds);
    return private.input_answer(session.id, told, true);
  end if;
  perform private.check_origin(caller, create_session_v1.agent, create_session_v1.environment_id);
  perform private.check_snapshot(create_session_v1.agent, create_session_v1.environment, create_session_v1.resources);
  if jsonb_path_exists(create_session_v1.events, '$[*] ? (!(@.type == "user.message"))') then
    raise exception using errcode = 'PT400', message = 'bad_event', detail = 'a session begins with messages only';
  end if;
  insert into public.agent_sessions (
    id, owner, title, metadata, agent_id, agent, environment_id, environment, resources, budget_microusd
  ) values (
    claim.subject::uuid, caller, create_session_v1.title, coalesce(create_session_v1.metadata, '{}'),
    create_session_v1.agent ->> 'id', create_session_v1.agent, create_session_v1.environment_id,
    create_session_v1.environment, coalesce(create_session_v1.resources, '[]'), create_session_v1.budget_microusd
  ) returning * into session;
  if create_session_v1.secrets <> '{}' then
    insert into public.session_secrets (session_id, secrets) values (session.id, create_session_v1.secrets);
  end if;
  told := private.accept_input(
    session, coalesce(create_session_v1.events, '[]'), coalesce(create_session_v1.attachments, '[]'), 'queue',
    create_session_v1.limit_seconds
  );
  perform private.keep_answer(caller, create_session_v1.idempotency_key, told);
  return private.input_answer(session.id, told, false);
end;
$$;

-- As before; counted as a message. Raises PT429 rate_limited and too_many_sandboxes as well.
create or replace function public.send_events_v1(
  session_id uuid,
  events jsonb,
  limit_seconds integer,
  request_hash text,
  idempotency_key text default null,
  attachments jsonb default '[]',
  on_busy text default 'queue'
) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  claim record;
  session public.agent_sessions;
  told jsonb;
begin
  select * into claim from private.claim_subject(
    caller, send_events_v1.idempotency_key, send_events_v1.request_hash, send_events_v1.session_id::text, 'message'
  );
  if not claim.is_new then
    session := private.lock_session(claim.subject::uuid, caller);
    told := private.replay_input(session, send_events_v1.idempotency_key, send_events_v1.limit_seconds);
    return private.input_answer(session.id, told, true);
  end if;
  session := private.lock_conversation(send_events_v1.session_id, caller);
  told := private.accept_input(
    session, send_events_v1.events, coalesce(send_events_v1.attachments, '[]'), coalesce(send_events_v1.on_busy, 'queue'),
    send_events_v1.limit_seconds
  );
  perform private.keep_answer(caller, send_events_v1.idempotency_key, told);
  return private.input_answer(session.id, told, false);
end;
$$;

-- As before, and within the owner's limits: it counts as a submit, it lasts no longer than it may (`is_cut`: a longer one
-- is cut to that), and the last thing it asks is whether there is room.
-- Raises PT429 rate_limited or too_many_sandboxes, PT400 invalid_request_error as well.
drop function public.admit_run_v1(text, jsonb, integer, text, text, uuid, text, jsonb);
create function public.admit_run_v1(
  kind text,
  input jsonb,
  limit_seconds integer,
  request_hash text,
  idempotency_key text default null,
  session_id uuid default null,
  title text default null,
  metadata jsonb default '{}',
  is_cut boolean default false
) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  new_id uuid := gen_random_uuid();
  of_session uuid := admit_run_v1.session_id;
  claim record;
  seconds integer;
  run public.agent_runs;
begin
  select * into claim from private.claim(
    caller, admit_run_v1.idempotency_key, admit_run_v1.request_hash, new_id, 'submit'
  );
  if not claim.is_new then
    select * into strict run from public.agent_runs r where r.id = claim.of_run;
    return jsonb_build_object('run', to_jsonb(run) - 'input', 'replayed', true);
  end if;

  seconds := private.run_seconds(caller, admit_run_v1.limit_seconds, admit_run_v1.is_cut);
  if of_session is null then
    insert into public.agent_sessions (owner, title, metadata)
      values (caller, admit_run_v1.title, coalesce(admit_run_v1.metadata, '{}'))
      returning id into of_session;
  else
    perform private.lock_free_session(of_session, caller);
  end if;
  perform private.require_room(caller);
  insert into public.agent_runs (id, session_id, owner, kind, input, limit_seconds, deadline_at)
    values (
      new_id, of_session, caller, admit_run_v1.kind, admit_run_v1.input, seconds, now() + make_interval(secs => seconds)
    )
    returning * into run;
  update public.agent_sessions s set status = 'running' where s.id = of_session;
  perform private.append(
    of_session, run.id, array['run.created'],
    array[jsonb_build_object('run_id', run.id, 'kind', run.kind, 'limit_seconds', run.limit_seconds)]
  );
  return jsonb_build_object('run', to_jsonb(run) - 'input', 'replayed', false);
end;
$$;

revoke all on function public.admit_run_v1 from public, anon, authenticated, service_role;
grant execute on function public.admit_run_v1 to authenticated;
