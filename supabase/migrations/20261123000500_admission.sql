-- Admission decides everything in one transaction: the key's claim, the owner's rate, the length, room for a sandbox, and
-- money for what the run is estimated to cost. Nothing is written of what is refused.

-- As before, and no longer than the owner's runs may be; a message that no sandbox may start for is refused whole.
-- Raises PT429 too_many_sandboxes, PT402 budget_exceeded.
create or replace function private.admit_turn(session public.agent_sessions, limit_seconds integer) returns public.agent_runs
  language plpgsql set search_path = ''
as $$
declare
  run public.agent_runs;
  seconds integer := private.run_seconds(session.owner, admit_turn.limit_seconds, true);
begin
  perform private.require_room(session.owner);
  insert into public.agent_runs (session_id, owner, kind, input, limit_seconds, deadline_at)
    values (
      session.id, session.owner, 'claude', jsonb_build_object('after_seq', session.taken_seq), seconds,
      now() + make_interval(secs => seconds)
    )
    returning * into run;
  perform private.reserve(run, session.budget_microusd - session.cost_microusd);
  return run;
end;
$$;

-- As before; null too when there is no room, or no money: the messages go on waiting.
create or replace function private.admit_waiting(session public.agent_sessions, limit_seconds integer) returns uuid
  language plpgsql set search_path = ''
as $$
declare
  run public.agent_runs := private.live_run(session.id);
begin
  if run.id is not null or session.status = 'terminated' or session.message_seq <= session.taken_seq then
    return null;
  elsif not private.has_room(session.owner) then
    return null;
  -- A statement of its own, as has_room needs one: it sees what was committed while the lock was waited for.
  elsif not private.has_money(session, private.run_seconds(session.owner, admit_waiting.limit_seconds, true)) then
    return null;
  end if;
  run := private.admit_turn(session, admit_waiting.limit_seconds);
  update public.agent_sessions s set status = 'running' where s.id = session.id;
  perform private.append(session.id, run.id, array['run.created'], array[private.created(run)]);
  return run.id;
end;
$$;

-- The answer to a request that was admitted before. Raises as lock_session.
create function private.replayed_input(of_session uuid, of_owner uuid, of_key text, limit_seconds integer) returns jsonb
  language plpgsql set search_path = ''
as $$
declare
  session public.agent_sessions := private.lock_session(of_session, of_owner);
  told jsonb := private.replay_input(session, of_key, replayed_input.limit_seconds);
begin
  return private.input_answer(session.id, told, true);
end;
$$;

-- As before; counted as a submit, with events or without. Raises PT429 rate_limited and too_many_sandboxes, PT402
-- budget_exceeded as well.
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
    return private.replayed_input(claim.subject::uuid, caller, create_session_v1.idempotency_key, create_session_v1.limit_seconds);
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

-- As before; counted as a message. Raises PT429 rate_limited and too_many_sandboxes, PT402
-- budget_exceeded as well.
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
    return private.replayed_input(claim.subject::uuid, caller, send_events_v1.idempotency_key, send_events_v1.limit_seconds);
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
-- is cut to that), it may have a budget, and the last it asks for is room and money.
-- Raises PT429 rate_limited or too_many_sandboxes, PT402 budget_exceeded, PT400 invalid_request_error as well.
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
  is_cut boolean default false,
  budget_microusd bigint default null
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
  perform private.reserve(run, admit_run_v1.budget_microusd);
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
