-- The life of a conversation: made, changed, archived, deleted by its owner.

-- Refuses an agent or an environment that the caller cannot start a session with.
-- Raises PT404 agent_not_found or environment_not_found, PT409 agent_archived or environment_archived.
create function private.check_origin(of_owner uuid, agent jsonb, of_environment text) returns void
  language plpgsql set search_path = ''
as $$
declare
  archived timestamptz;
begin
  select a.archived_at into archived from public.agents a join public.agent_versions v on v.agent_id = a.id
    where a.id = agent ->> 'id' and v.version::text = agent ->> 'version' and (a.owner = of_owner or a.owner is null);
  if not found then
    raise exception using errcode = 'PT404', message = 'agent_not_found';
  elsif archived is not null then
    raise exception using errcode = 'PT409', message = 'agent_archived';
  end if;
  select e.archived_at into archived from public.environments e
    where e.id = of_environment and (e.owner = of_owner or e.owner is null);
  if not found then
    raise exception using errcode = 'PT404', message = 'environment_not_found';
  elsif archived is not null then
    raise exception using errcode = 'PT409', message = 'environment_archived';
  end if;
end;
$$;

-- Refuses a snapshot that readers could not read. Raises PT400 bad_agent, bad_environment or bad_resources.
create function private.check_snapshot(agent jsonb, environment jsonb, resources jsonb) returns void
  language plpgsql set search_path = ''
as $$
begin
  if not private.is_config(agent) then
    raise exception using errcode = 'PT400', message = 'bad_agent';
  elsif not private.is_config(environment) then
    raise exception using errcode = 'PT400', message = 'bad_environment';
  elsif jsonb_typeof(resources) <> 'array' or octet_length(resources::text) > 65536 or not private.is_readable(resources) then
    raise exception using errcode = 'PT400', message = 'bad_resources';
  end if;
end;
$$;

-- A conversation with an agent, resolved, in an environment. With events, which can only be messages, its first run is
-- admitted with it. Answers {"session", "run", "events", "admitted", "replayed"} as send_events_v1 does.
-- Raises PT400 bad_agent, bad_environment, bad_resources, bad_event or unreadable, PT401 not_signed_in, PT413 too_large,
-- PT404 agent_not_found or environment_not_found, PT409 agent_archived, environment_archived or idempotency_key_reused.
create function public.create_session_v1(
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
    caller, create_session_v1.idempotency_key, create_session_v1.request_hash, gen_random_uuid()::text
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

-- The metadata with the patch in it: null takes a key away. Raises PT400 bad_metadata.
create function private.patched(metadata jsonb, patch jsonb) returns jsonb
  language plpgsql immutable set search_path = ''
as $$
declare
  merged jsonb := jsonb_strip_nulls(metadata || coalesce(patch, '{}'));
begin
  if jsonb_typeof(patch) not in ('object', 'null') or (select count(*) from jsonb_object_keys(merged)) > 16
    or octet_length(merged::text) > 16384 then
    raise exception using errcode = 'PT400', message = 'bad_metadata', detail = 'at most 16 keys and 16384 bytes';
  end if;
  return merged;
end;
$$;

-- Refuses changes that the session, whose lock the caller holds, cannot take.
-- Raises PT400 budget_not_raised or bad_agent, PT409 session_terminated or session_running.
create function private.check_changes(session public.agent_sessions, changes jsonb) returns void
  language plpgsql set search_path = ''
as $$
begin
  if session.status = 'terminated' then
    raise exception using errcode = 'PT409', message = 'session_terminated';
  elsif (changes ->> 'budget_microusd')::bigint <= session.cost_microusd then
    raise exception using errcode = 'PT400', message = 'budget_not_raised', detail = 'the session has cost as much already';
  elsif changes ? 'agent' and (
    not private.is_config(changes -> 'agent') or changes -> 'agent' ->> 'id' is distinct from session.agent_id
  ) then
    raise exception using errcode = 'PT400', message = 'bad_agent', detail = 'a session keeps its agent';
  elsif changes ? 'agent' and session.status = 'running' then
    raise exception using errcode = 'PT409', message = 'session_running', detail = 'the agent changes between turns';
  end if;
end;
$$;

-- Changes what is named of title, metadata (a patch: null takes a key away), budget_microusd (null: none) and agent (the
-- whole snapshot). Answers with the session. Raises PT400 budget_not_raised, bad_agent or bad_metadata, PT401
-- not_signed_in, PT404 session_not_found, PT409 session_terminated, session_running or idempotency_key_reused.
create function public.update_session_v1(
  session_id uuid, changes jsonb, request_hash text, idempotency_key text default null
) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  claim record;
  session public.agent_sessions;
begin
  select * into claim from private.claim_subject(
    caller, update_session_v1.idempotency_key, update_session_v1.request_hash, update_session_v1.session_id::text
  );
  session := private.lock_session(claim.subject::uuid, caller);
  if claim.is_new then
    perform private.check_changes(session, update_session_v1.changes);
    update public.agent_sessions s
      set
        title = case when changes ? 'title' then changes ->> 'title' else s.title end,
        metadata = case when changes ? 'metadata' then private.patched(s.metadata, changes -> 'metadata') else s.metadata end,
        budget_microusd = case when changes ? 'budget_microusd' then (changes ->> 'budget_microusd')::bigint else s.budget_microusd end,
        agent = case when changes ? 'agent' then changes -> 'agent' else s.agent end,
        updated_at = now()
      where s.id = session.id;
  end if;
  return private.session_facts(session.id);
end;
$$;

-- The sandboxes that are still open, for whoever ends the session to kill.
create function private.open_sandboxes(of_session uuid) returns jsonb
  language sql stable set search_path = ''
  return (
    select coalesce(jsonb_agg(x.sandbox_id order by x.started_at), '[]')
    from public.sandbox_executions x where x.session_id = of_session and x.ended_at is null
  );

-- The caller's own session, locked, with no run at work; one that only waits for an answer is ended as cancelled.
-- Raises PT404 session_not_found, PT409 session_running.
create function private.lock_resting_session(of_session uuid, of_owner uuid) returns public.agent_sessions
  language plpgsql set search_path = ''
as $$
declare
  session public.agent_sessions := private.lock_session(of_session, of_owner);
  live public.agent_runs := private.live_run(session.id);
begin
  if session.status = 'running' then
    raise exception using errcode = 'PT409', message = 'session_running', detail = 'interrupt the session first';
  elsif live.id is not null then
    perform private.end_run(live.id, 'cancelled', null, null);
  end if;
  return session;
end;
$$;

-- Ends the session for good and keeps its log. Archived again it answers the same. Answers with the session and, in
-- "sandbox_ids", the sandboxes that are still open.
-- Raises PT401 not_signed_in, PT404 session_not_found, PT409 session_running or idempotency_key_reused.
create function public.archive_session_v1(session_id uuid, request_hash text, idempotency_key text default null) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  claim record;
  session public.agent_sessions;
begin
  select * into claim from private.claim_subject(
    caller, archive_session_v1.idempotency_key, archive_session_v1.request_hash, archive_session_v1.session_id::text
  );
  session := private.lock_resting_session(claim.subject::uuid, caller);
  if session.archived_at is null then
    update public.agent_sessions s set status = 'terminated', archived_at = now() where s.id = session.id;
    perform private.append(session.id, null, array['session.status_terminated'], array['{}'::jsonb]);
  end if;
  return private.session_facts(session.id) || jsonb_build_object('sandbox_ids', private.open_sandboxes(session.id));
end;
$$;

-- Deletes the session with everything of it; its last event, `session.deleted`, is only broadcast. Answers
-- {"sandbox_ids"}: those that are still open. A key's second use answers the same.
-- Raises PT401 not_signed_in, PT404 session_not_found, PT409 session_running or idempotency_key_reused.
create function public.delete_session_v1(session_id uuid, request_hash text default null, idempotency_key text default null)
  returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  claim record;
  session public.agent_sessions;
  answer jsonb;
begin
  select * into claim from private.claim_subject(
    caller, delete_session_v1.idempotency_key, delete_session_v1.request_hash, delete_session_v1.session_id::text
  );
  if not claim.is_new then
    return claim.answer;
  end if;
  session := private.lock_resting_session(delete_session_v1.session_id, caller);
  answer := jsonb_build_object('sandbox_ids', private.open_sandboxes(session.id));
  perform private.append(session.id, null, array['session.deleted'], array['{}'::jsonb]);
  delete from public.agent_sessions s where s.id = session.id;
  perform private.keep_answer(caller, delete_session_v1.idempotency_key, answer);
  return answer;
end;
$$;

revoke all on function public.create_session_v1, public.update_session_v1, public.archive_session_v1, public.delete_session_v1
  from public, anon, authenticated, service_role;
grant execute on function public.create_session_v1, public.update_session_v1, public.archive_session_v1,
  public.delete_session_v1 to authenticated;
