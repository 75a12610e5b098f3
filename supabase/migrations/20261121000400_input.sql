-- What people say to a conversation: messages, interrupts, answers to Claude's questions. They stand in the log first;
-- a live run learns of them, and where there is none a message admits one.

-- A turn for the session, whose lock the caller holds. It is given what is said after `after_seq`.
create function private.admit_turn(session public.agent_sessions, limit_seconds integer) returns public.agent_runs
  language sql set search_path = ''
  begin atomic
    insert into public.agent_runs (session_id, owner, kind, input, limit_seconds, deadline_at)
      values (
        session.id, session.owner, 'claude', jsonb_build_object('after_seq', session.taken_seq), admit_turn.limit_seconds,
        now() + make_interval(secs => admit_turn.limit_seconds)
      )
      returning *;
  end;

create function private.created(run public.agent_runs) returns jsonb
  language sql immutable
  return jsonb_build_object('run_id', run.id, 'kind', run.kind, 'limit_seconds', run.limit_seconds);

-- The id of the tool use that is answered; refuses an answer to nothing. Raises PT400 no_such_tool_use, PT409
-- already_answered, or not_waiting when no live run has asked: it ended, or went on without an answer.
create function private.check_answer(of_session uuid, live public.agent_runs, event jsonb) returns text
  language plpgsql set search_path = ''
as $$
declare
  is_custom boolean := event ->> 'type' = 'user.custom_tool_result';
  tool_use_id text := case when is_custom then event ->> 'custom_tool_use_id' else event ->> 'tool_use_id' end;
  asked public.agent_events;
begin
  select * into asked from public.agent_events e
    where e.session_id = of_session
      and e.type in ('agent.tool_use', 'agent.mcp_tool_use', 'agent.custom_tool_use')
      and left(e.data ->> 'id', 128) = left(tool_use_id, 128) and e.data ->> 'id' = tool_use_id
      and (e.type = 'agent.custom_tool_use') = is_custom
    order by e.seq limit 1;
  if not found then
    raise exception using errcode = 'PT400', message = 'no_such_tool_use';
  elsif exists (
    select from public.agent_events e
    where e.session_id = of_session and e.type in ('user.tool_confirmation', 'user.custom_tool_result')
      and left(coalesce(e.data ->> 'tool_use_id', e.data ->> 'custom_tool_use_id'), 128) = left(tool_use_id, 128)
  ) then
    raise exception using errcode = 'PT409', message = 'already_answered';
  elsif live.id is null or asked.run_id is distinct from live.id or exists (
    select from public.agent_events e
    where e.session_id = of_session and e.seq > asked.seq and e.type in ('agent.tool_result', 'agent.mcp_tool_result')
      and coalesce(e.data ->> 'tool_use_id', e.data ->> 'mcp_tool_use_id') = tool_use_id
  ) then
    raise exception using errcode = 'PT409', message = 'not_waiting', detail = 'nobody waits for this answer';
  end if;
  return tool_use_id;
end;
$$;

-- Refuses what the log should not hold. Raises PT400 bad_event, PT413 too_large, PT409 session_busy, and as check_answer.
create function private.check_input(of_session uuid, live public.agent_runs, events jsonb, on_busy text) returns void
  language plpgsql set search_path = ''
as $$
declare
  event jsonb;
  answers text[] := '{}';
begin
  if jsonb_typeof(events) is distinct from 'array' or on_busy not in ('queue', 'interrupt', 'reject') then
    raise exception using errcode = 'PT400', message = 'bad_event';
  elsif jsonb_array_length(events) > 100 or pg_column_size(events) > 2097152 then
    raise exception using errcode = 'PT413', message = 'too_large';
  elsif not private.is_readable(events) then
    raise exception using errcode = 'PT400', message = 'unreadable', detail = 'a number is too large';
  end if;
  for event in select e.value from jsonb_array_elements(events) e loop
    case event ->> 'type'
      when 'user.message' then
        if live.id is not null and on_busy = 'reject' then
          raise exception using errcode = 'PT409', message = 'session_busy', detail = 'the session has a live run';
        end if;
      when 'user.tool_confirmation', 'user.custom_tool_result' then
        answers := answers || private.check_answer(of_session, live, event);
      when 'user.interrupt' then
        null;
      else
        raise exception using errcode = 'PT400', message = 'bad_event', detail = 'not an event that a person sends';
    end case;
  end loop;
  if cardinality(answers) > (select count(distinct a) from unnest(answers) a) then
    raise exception using errcode = 'PT409', message = 'already_answered', detail = 'the request itself answers twice';
  end if;
end;
$$;

-- Raises PT413 too_large. What the events refer to is not compared with what is kept.
create function private.keep_attachments(of_session uuid, attachments jsonb) returns void
  language plpgsql set search_path = ''
as $$
begin
  if pg_column_size(attachments) > 33554432 or jsonb_array_length(attachments) > 200 then
    raise exception using errcode = 'PT413', message = 'too_large';
  end if;
  insert into public.session_attachments (session_id, id, media_type, title, data)
    select of_session, a.id, a.media_type, a.title, decode(a.data, 'base64')
    from jsonb_to_recordset(attachments) as a (id uuid, media_type text, title text, data text);
end;
$$;

-- Logs the events, and admits a run when they hold a message and none is live; one append. The caller holds the lock of
-- the session. Answers {"seqs": those of the events, "run_id": the live or admitted run, "admitted"}; raises as check_input.
create function private.accept_input(
  session public.agent_sessions, events jsonb, attachments jsonb, on_busy text, limit_seconds integer
) returns jsonb
  language plpgsql set search_path = ''
as $$
declare
  run public.agent_runs := private.live_run(session.id);
  is_live boolean := run.id is not null;
  has_message boolean;
  interrupts boolean;
  types text[];
  datas jsonb[];
  given bigint[];
begin
  perform private.check_input(session.id, run, events, on_busy);
  perform private.keep_attachments(session.id, attachments);
  has_message := jsonb_path_exists(events, '$[*] ? (@.type == "user.message")');
  interrupts := is_live and has_message and on_busy = 'interrupt';
  if has_message and not is_live then
    run := private.admit_turn(session, accept_input.limit_seconds);
  end if;

  with said as (
    select 0 as k, '{"type": "user.interrupt"}'::jsonb as event where interrupts
    union all
    select e.k, e.value from jsonb_array_elements(events) with ordinality as e (value, k)
  ), placed as (
    select s.k, s.event, row_number() over (order by s.k) as place from said s
  )
  select
    array_agg(p.event ->> 'type' order by p.k),
    array_agg((p.event - 'type') || jsonb_build_object('id', private.new_id('sevt')) order by p.k),
    array_agg(session.last_seq + p.place order by p.k) filter (where p.k > 0)
    into types, datas, given
    from placed p;
  if types is null then
    return jsonb_build_object('seqs', '[]'::jsonb, 'run_id', run.id, 'admitted', false);
  end if;
  update public.agent_sessions s
    set
      input_seq = session.last_seq + cardinality(types),
      message_seq = greatest(s.message_seq, (
        select session.last_seq + max(t.place) from unnest(types) with ordinality as t (type, place) where t.type = 'user.message'
      )),
      status = case when has_message and not is_live then 'running' else s.status end
    where s.id = session.id;
  if has_message and not is_live then
    types := types || 'run.created'::text;
    datas := datas || private.created(run);
  end if;
  perform private.append(session.id, run.id, types, datas);
  return jsonb_build_object('seqs', to_jsonb(given), 'run_id', run.id, 'admitted', has_message and not is_live);
end;
$$;

-- Admits a run for messages that none was given, when none is live. Null when there is nothing to do. The caller holds
-- the session's lock.
create function private.admit_waiting(session public.agent_sessions, limit_seconds integer) returns uuid
  language plpgsql set search_path = ''
as $$
declare
  run public.agent_runs := private.live_run(session.id);
begin
  if run.id is not null or session.status = 'terminated' or session.message_seq <= session.taken_seq then
    return null;
  end if;
  run := private.admit_turn(session, admit_waiting.limit_seconds);
  update public.agent_sessions s set status = 'running' where s.id = session.id;
  perform private.append(session.id, run.id, array['run.created'], array[private.created(run)]);
  return run.id;
end;
$$;

-- What the first request was told, and, where a message waits that no run was given, a new run: whatever became of the
-- first request's launch, sent again with its key it is seen to, and its events stand in the log once. The caller holds
-- the session's lock.
create function private.replay_input(session public.agent_sessions, of_key text, limit_seconds integer) returns jsonb
  language plpgsql set search_path = ''
as $$
declare
  -- Read under the lock: another replay may have admitted a run since the claim was looked at.
  told jsonb := (select k.answer from public.idempotency_keys k where k.owner = session.owner and k.key = of_key);
  again uuid;
begin
  again := private.admit_waiting(session, replay_input.limit_seconds);
  if again is null then
    return told || '{"admitted": false}';
  end if;
  told := told || jsonb_build_object('run_id', again);
  perform private.keep_answer(session.owner, of_key, told);
  return told;
end;
$$;

-- {"events", "run", "admitted", "session", "replayed"} for what accept_input or replay_input told.
create function private.input_answer(of_session uuid, told jsonb, replayed boolean) returns jsonb
  language sql stable set search_path = ''
  return jsonb_build_object(
    'events', (
      select coalesce(jsonb_agg(to_jsonb(e) order by e.seq), '[]')
      from jsonb_array_elements(told -> 'seqs') s join public.agent_events e
        on e.session_id = of_session and e.seq = s.value::bigint
    ),
    'run', (select to_jsonb(r) from public.agent_runs r where r.id = (told ->> 'run_id')::uuid),
    'admitted', (told ->> 'admitted')::boolean,
    'session', private.session_facts(of_session),
    'replayed', replayed
  );

-- The caller's own conversation, locked and open. Raises PT404 session_not_found, PT409 session_terminated or
-- not_a_conversation.
create function private.lock_conversation(of_session uuid, of_owner uuid) returns public.agent_sessions
  language plpgsql set search_path = ''
as $$
declare
  session public.agent_sessions := private.lock_session(of_session, of_owner);
begin
  if session.status = 'terminated' then
    raise exception using errcode = 'PT409', message = 'session_terminated';
  elsif session.agent_id is null then
    raise exception using errcode = 'PT409', message = 'not_a_conversation', detail = 'the session has no agent';
  end if;
  return session;
end;
$$;

-- Says something to a conversation. `events` are {"type", …}; SQL gives each an id. A message sent while a run is live
-- waits (`queue`), comes after an interrupt (`interrupt`) or is refused (`reject`); sent to a session without one, it
-- admits a run. `attachments` are [{"id", "media_type", "title", "data": base64}].
-- `events` of the answer are the rows of those given; `admitted` is true for whoever must launch `run`.
-- Raises PT400 bad_event, no_such_tool_use or unreadable, PT401 not_signed_in, PT404 session_not_found, PT413 too_large,
-- PT409 session_terminated, not_a_conversation, session_busy, already_answered, not_waiting or idempotency_key_reused.
create function public.send_events_v1(
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
    caller, send_events_v1.idempotency_key, send_events_v1.request_hash, send_events_v1.session_id::text
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

-- Admits a run for messages that nobody was given: their run was lost, or cancelled, before it took them. Answers as
-- send_events_v1 without events; not admitted when nothing waits or a run is live.
-- Raises PT401 not_signed_in, PT404 session_not_found, PT409 not_a_conversation or session_terminated.
create function public.admit_waiting_v1(session_id uuid, limit_seconds integer) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  session public.agent_sessions := private.lock_conversation(admit_waiting_v1.session_id, private.caller());
  admitted uuid := private.admit_waiting(session, admit_waiting_v1.limit_seconds);
  live public.agent_runs := private.live_run(session.id);
begin
  return private.input_answer(
    session.id, jsonb_build_object('seqs', '[]'::jsonb, 'run_id', live.id, 'admitted', admitted is not null), false
  );
end;
$$;

revoke all on function public.send_events_v1, public.admit_waiting_v1 from public, anon, authenticated, service_role;
grant execute on function public.send_events_v1, public.admit_waiting_v1 to authenticated;
