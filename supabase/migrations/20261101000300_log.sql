-- The log: the only places that insert into agent_events, and the one broadcast per batch.

-- The token's claims as a run and an epoch; refuses every token that is not a run's.
create function private.run_token(out run_id uuid, out session_id uuid, out epoch integer)
  language plpgsql stable set search_path = ''
as $$
declare
  claims jsonb := auth.jwt();
begin
  if claims ->> 'role' is distinct from 'runner' or claims ->> 'aud' is distinct from 'runner' then
    raise exception using errcode = 'PT403', message = 'not_a_run_token';
  end if;
  run_id := (claims ->> 'run_id')::uuid;
  session_id := (claims ->> 'session_id')::uuid;
  epoch := (claims ->> 'epoch')::integer;
end;
$$;

-- Locks the run's session, then reads the run (all null when there is none). Every writer takes this lock first,
-- so seq has no hole, no writer sees a stale run, and no two of them can deadlock.
create function private.lock_run(of_run uuid) returns public.agent_runs
  language plpgsql set search_path = ''
as $$
declare
  run public.agent_runs;
begin
  perform from public.agent_sessions s
    join public.agent_runs r on r.session_id = s.id
    where r.id = of_run
    for no key update of s;
  select * into run from public.agent_runs r where r.id = of_run;
  return run;
end;
$$;

-- The token's run, locked. Refuses a run that the token does not fit and an epoch that is over.
create function private.lock_run_of_token() returns public.agent_runs
  language plpgsql set search_path = ''
as $$
declare
  token record;
  run public.agent_runs;
begin
  select * into token from private.run_token();
  run := private.lock_run(token.run_id);
  if run.id is null or run.session_id is distinct from token.session_id then
    raise exception using errcode = 'PT403', message = 'not_a_run_token', detail = 'there is no such run';
  end if;
  if token.epoch is distinct from run.epoch then
    raise exception using errcode = 'PT403', message = 'stale_epoch', detail = format('the run is at epoch %s', run.epoch);
  end if;
  return run;
end;
$$;

-- What the runner learns from every answer.
create function private.run_answer(run public.agent_runs) returns jsonb
  language sql stable set search_path = ''
  return jsonb_build_object(
    'status', run.status,
    'last_n', run.last_n,
    'last_seq', (select s.last_seq from public.agent_sessions s where s.id = run.session_id),
    'cancel_requested', run.cancel_requested_at is not null
  );

-- Events that SQL itself writes, in the order given; one statement, so one broadcast.
create function private.append(of_session uuid, of_run uuid, types text[], datas jsonb[]) returns void
  language plpgsql set search_path = ''
as $$
declare
  base bigint;
begin
  update public.agent_sessions s
    set last_seq = s.last_seq + cardinality(types), updated_at = now()
    where s.id = of_session
    returning s.last_seq - cardinality(types) into strict base;
  insert into public.agent_events (session_id, seq, run_id, type, data)
    select of_session, base + e.k, of_run, e.type, e.data
    from unnest(types, datas) with ordinality as e (type, data, k);
end;
$$;

-- Takes the events that continue the run's numbering, drops those it has, and takes nothing after a hole.
-- Any batch may be sent again, and in any order. Moves a launching run to running.
-- Raises PT403 stale_epoch or not_a_run_token, PT409 run_finished when a finished run is sent something new, PT400
-- unreadable, and PT413 too_large for more than 2 MiB or 2,000 events.
create function public.append_events_v1(events jsonb) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.lock_run_of_token();
  taken bigint;
begin
  if pg_column_size(append_events_v1.events) > 2097152 or jsonb_array_length(append_events_v1.events) > 2000 then
    raise exception using errcode = 'PT413', message = 'too_large';
  elsif not private.is_readable(append_events_v1.events) then
    raise exception using errcode = 'PT400', message = 'unreadable', detail = 'a number is too large';
  end if;
  insert into public.agent_events (session_id, seq, run_id, n, type, data, produced_at)
    select run.session_id, s.last_seq + e.k, run.id, e.n, e.type, e.data,
      -- A clock may be wrong; a time that no calendar has would make the page unreadable.
      case when e.at between '1970-01-01' and '9999-01-01' then e.at else clock_timestamp() end
    from public.agent_sessions s,
      lateral (
        select sent.*, row_number() over (order by sent.n) as k
        from (
          -- Without its repeats: one before a hole would make up for it, and the hole would pass unseen.
          select distinct on (once.n) once.*
          from jsonb_to_recordset(append_events_v1.events) as once (n bigint, type text, data jsonb, at timestamptz)
          where once.n > run.last_n
          order by once.n
        ) sent
      ) e
    -- Contiguous from last_n: past a hole, n runs ahead of its place for good.
    where s.id = run.session_id and e.n = run.last_n + e.k
    order by e.k;
  get diagnostics taken = row_count;

  if not private.is_live(run.status) then
    if taken > 0 then
      raise exception using errcode = 'PT409', message = 'run_finished', detail = format('the run has %s', run.status);
    end if;
    return private.run_answer(run);
  end if;

  if taken > 0 then
    update public.agent_sessions s set last_seq = s.last_seq + taken, updated_at = now() where s.id = run.session_id;
  end if;
  update public.agent_runs r
    set last_n = r.last_n + taken, heartbeat_at = now(), started_at = coalesce(r.started_at, now()), status = 'running'
    where r.id = run.id
    returning * into run;
  return private.run_answer(run);
end;
$$;

-- Says that the runner lives, and tells it what the log holds and whether to stop. Raises as append_events_v1.
create function public.heartbeat_v1() returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.lock_run_of_token();
begin
  if private.is_live(run.status) then
    update public.agent_runs r set heartbeat_at = now() where r.id = run.id;
  end if;
  return private.run_answer(run);
end;
$$;

-- Ends the run, and writes its terminal events in the same transaction. Sent twice, it answers twice and writes once.
-- Raises PT409 events_missing unless the log holds exactly last_n, PT403 as append_events_v1, PT400 for a bad status.
create function public.finish_run_v1(status text, last_n bigint, result jsonb default null, error jsonb default null)
  returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.lock_run_of_token();
begin
  if not private.is_live(run.status) then
    return private.run_answer(run);
  end if;
  if not exists (
    select from public.run_moves m
    where m.from_status = run.status and m.to_status = finish_run_v1.status
      and m.made_by @> array['runner'] and not private.is_live(m.to_status)
  ) or finish_run_v1.status is null then
    raise exception using errcode = 'PT400', message = 'not_an_end', detail = format('a runner cannot end a run as %s', finish_run_v1.status);
  end if;
  if run.last_n is distinct from finish_run_v1.last_n then
    raise exception using errcode = 'PT409', message = 'events_missing', detail = run.last_n::text;
  end if;
  -- A statement of its own: the answer would not see the terminal events in the log otherwise.
  run := private.end_run(run.id, finish_run_v1.status, finish_run_v1.result, finish_run_v1.error);
  return private.run_answer(run);
end;
$$;

-- The one place where a run becomes terminal. The caller holds the session's lock.
create function private.end_run(of_run uuid, to_status text, with_result jsonb, with_error jsonb) returns public.agent_runs
  language plpgsql set search_path = ''
as $$
declare
  run public.agent_runs;
begin
  update public.agent_runs r
    set status = to_status, ended_at = now(), result = with_result, error = with_error
    where r.id = of_run
    returning * into strict run;
  perform private.append(
    run.session_id, run.id,
    array['run.' || to_status, 'session.status_idle'],
    array[
      jsonb_build_object('result', with_result, 'error', with_error),
      jsonb_build_object('stop_reason', jsonb_build_object('type', 'end_turn'))
    ]
  );
  update public.agent_sessions s set status = 'idle' where s.id = run.session_id and s.status <> 'terminated';
  return run;
end;
$$;

-- One message per inserted batch, private, on the session's topic: the events themselves when they fit,
-- otherwise only their range, which sends the reader to the table. Hosted Realtime refuses more than 256 KB.
create function private.broadcast_events() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  batch record;
  payload jsonb;
begin
  for batch in
    select a.session_id, min(a.seq) as first_seq, max(a.seq) as last_seq, jsonb_agg(to_jsonb(a) order by a.seq) as events
    from added a group by a.session_id
  loop
    payload := jsonb_build_object(
      'session_id', batch.session_id, 'first_seq', batch.first_seq, 'last_seq', batch.last_seq, 'events', batch.events
    );
    if octet_length(payload::text) > 200000 then
      payload := payload - 'events';
    end if;
    perform realtime.send(payload, 'events', 'session:' || batch.session_id, true);
  end loop;
  return null;
end;
$$;

create trigger broadcast_events
  after insert on public.agent_events
  referencing new table as added
  for each statement execute function private.broadcast_events();

create policy "the owner of a session may listen to it" on realtime.messages
  for select to authenticated using (
    exists (
      select from public.agent_sessions s
      where s.owner = (select auth.uid())
        and 'session:' || s.id::text = (select realtime.topic())
    )
  );

-- For clients that prefer postgres_changes.
alter publication supabase_realtime add table public.agent_sessions, public.agent_runs, public.agent_events;

revoke all on function public.append_events_v1, public.heartbeat_v1, public.finish_run_v1
  from public, anon, authenticated, service_role;
grant execute on function public.append_events_v1, public.heartbeat_v1, public.finish_run_v1 to runner;
