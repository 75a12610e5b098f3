-- A turn as its runner and the control plane see it: what was said is taken, live text passes through, the end is written.

-- The endpoint ends runs too: one whose sandbox it finds gone, and one that only waits when its session is archived.
insert into public.run_moves (from_status, to_status, made_by) values
  ('launching', 'cancelled', array['runner', 'launch', 'sweep']),
  ('launching', 'lost', array['launch', 'sweep']),
  ('running', 'cancelled', array['runner', 'launch', 'sweep']),
  ('running', 'lost', array['launch', 'sweep'])
  on conflict (from_status, to_status) do update set made_by = excluded.made_by;

-- What the runner learns from every answer. input_seq: the last thing that was said, for it to take.
create or replace function private.run_answer(run public.agent_runs) returns jsonb
  language sql stable set search_path = ''
  return (
    select jsonb_build_object(
      'status', run.status,
      'last_n', run.last_n,
      'last_seq', s.last_seq,
      'input_seq', s.input_seq,
      'cancel_requested', run.cancel_requested_at is not null
    )
    from public.agent_sessions s where s.id = run.session_id
  );

-- The one place where a run becomes terminal. The caller holds the session's lock. The result may say why the session
-- rests (`stop_reason`) and what the run has cost (`cost_microusd`).
create or replace function private.end_run(of_run uuid, to_status text, with_result jsonb, with_error jsonb) returns public.agent_runs
  language plpgsql set search_path = ''
as $$
declare
  run public.agent_runs;
  stop_reason jsonb := '{"type": "end_turn"}';
begin
  if jsonb_typeof(with_result -> 'stop_reason' -> 'type') = 'string' then
    stop_reason := with_result -> 'stop_reason';
  end if;
  update public.agent_runs r
    set status = to_status, ended_at = now(), result = with_result, error = with_error
    where r.id = of_run
    returning * into strict run;
  perform private.append(
    run.session_id, run.id,
    array['run.' || to_status, 'session.status_idle'],
    array[
      jsonb_build_object('result', with_result, 'error', with_error),
      jsonb_build_object('stop_reason', stop_reason)
    ]
  );
  update public.agent_sessions s
    set
      status = case when s.status = 'terminated' then s.status else 'idle' end,
      cost_microusd = s.cost_microusd + coalesce(private.as_count(with_result -> 'cost_microusd'), 0)
    where s.id = run.session_id;
  return run;
end;
$$;

-- Whether something was said that the run was not given, so that it may not end as if all were done.
create function private.has_untaken(run public.agent_runs) returns boolean
  language sql stable set search_path = ''
  return run.kind = 'claude' and run.cancel_requested_at is null
    and exists (select from public.agent_sessions s where s.id = run.session_id and s.message_seq > s.taken_seq);

-- Ends the run, and writes its terminal events in the same transaction. Sent twice, it answers twice and writes once.
-- Raises PT409 events_missing unless the log holds exactly last_n, PT409 input_pending while a message waits that this turn
-- was not given, PT403 as append_events_v1, PT400 for a bad status.
create or replace function public.finish_run_v1(status text, last_n bigint, result jsonb default null, error jsonb default null)
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
  elsif finish_run_v1.status in ('succeeded', 'cancelled') and private.has_untaken(run) then
    raise exception using errcode = 'PT409', message = 'input_pending', detail = 'a message waits';
  end if;
  -- A statement of its own: the answer would not see the terminal events in the log otherwise.
  run := private.end_run(run.id, finish_run_v1.status, finish_run_v1.result, finish_run_v1.error);
  return private.run_answer(run);
end;
$$;

-- Refuses what a run that has ended asks for. Raises PT409 run_finished.
create function private.refuse_finished(run public.agent_runs) returns public.agent_runs
  language plpgsql set search_path = ''
as $$
begin
  if not private.is_live(run.status) then
    raise exception using errcode = 'PT409', message = 'run_finished', detail = format('the run has %s', run.status);
  end if;
  return run;
end;
$$;

-- The token's run, live and locked. Raises as lock_run_of_token, and PT409 run_finished.
create function private.lock_live_run_of_token() returns public.agent_runs
  language sql set search_path = ''
  begin atomic
    select r.* from private.refuse_finished(private.lock_run_of_token()) r;
  end;

-- The token's run for those who only read, without the lock: it may end, or pass to a higher epoch, meanwhile.
-- Raises PT403 not_a_run_token or stale_epoch, PT409 run_finished.
create function private.live_run_of_token() returns public.agent_runs
  language plpgsql stable set search_path = ''
as $$
declare
  token record;
  run public.agent_runs;
begin
  select * into token from private.run_token();
  select * into run from public.agent_runs r where r.id = token.run_id and r.session_id = token.session_id;
  if not found then
    raise exception using errcode = 'PT403', message = 'not_a_run_token', detail = 'there is no such run';
  elsif token.epoch is distinct from run.epoch then
    raise exception using errcode = 'PT403', message = 'stale_epoch', detail = format('the run is at epoch %s', run.epoch);
  end if;
  return private.refuse_finished(run);
end;
$$;

-- What people said after seq `after`, in order: {"events": [{"seq", "type", "data"}], "last_seq"}, where last_seq is what to
-- ask after next, until nothing comes. At most 100 events and about 1 MiB; one at least. What is answered here counts as
-- given to the run.
-- Raises PT403 as append_events_v1, PT409 run_finished.
create function public.take_input_v1(after bigint) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.lock_live_run_of_token();
  events jsonb;
  given bigint;
begin
  select coalesce(jsonb_agg(jsonb_build_object('seq', e.seq, 'type', e.type, 'data', e.data) order by e.seq), '[]'),
      coalesce(max(e.seq), take_input_v1.after)
    into events, given
    from (
      select x.*, sum(octet_length(x.data::text)) over (order by x.seq) as total, row_number() over (order by x.seq) as k
      from (
        select u.seq, u.type, u.data from public.agent_events u
        where u.session_id = run.session_id and u.seq > take_input_v1.after and starts_with(u.type, 'user.')
        order by u.seq limit 100
      ) x
    ) e
    where e.total <= 1048576 or e.k = 1;
  if events <> '[]' then
    update public.agent_sessions s set taken_seq = greatest(s.taken_seq, given) where s.id = run.session_id;
  end if;
  return jsonb_build_object('events', events, 'last_seq', given);
end;
$$;

-- Passes live text on to whoever listens to the session; it is kept nowhere. Answers as heartbeat_v1.
-- Raises PT403 as append_events_v1, PT409 run_finished, PT400 unreadable, PT413 too_large for more than 64 KiB.
create function public.preview_v1(previews jsonb) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.live_run_of_token();
begin
  if octet_length(preview_v1.previews::text) > 65536 then
    raise exception using errcode = 'PT413', message = 'too_large';
  elsif jsonb_typeof(preview_v1.previews) is distinct from 'array' or not private.is_readable(preview_v1.previews) then
    raise exception using errcode = 'PT400', message = 'unreadable';
  end if;
  perform realtime.send(
    jsonb_build_object('session_id', run.session_id, 'run_id', run.id, 'previews', preview_v1.previews),
    'previews', 'session:' || run.session_id, true
  );
  return private.run_answer(run);
end;
$$;

-- Ends a run whose sandbox is gone. A run that has ended is left as it is. Raises PT404 run_not_found.
create function public.lose_run_v1(run_id uuid, error jsonb) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.lock_existing_run(lose_run_v1.run_id);
begin
  if private.is_live(run.status) then
    perform private.append(run.session_id, run.id, array['session.error'], array[jsonb_build_object('error', lose_run_v1.error)]);
    run := private.end_run(run.id, 'lost', null, lose_run_v1.error);
  end if;
  return to_jsonb(run) - 'input';
end;
$$;

-- As before; with `expected`, only while that is the run's epoch: of two who find the same runner dead one replaces it.
drop function public.next_epoch_v1(uuid);
create function public.next_epoch_v1(run_id uuid, expected integer default null) returns integer
  language plpgsql security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.lock_existing_run(next_epoch_v1.run_id);
begin
  update public.agent_runs r set epoch = r.epoch + 1
    where r.id = run.id and private.is_live(r.status) and r.epoch = coalesce(next_epoch_v1.expected, r.epoch)
    returning * into run;
  return run.epoch;
end;
$$;

-- The session's secrets, {} without any.
create function public.session_secrets_v1(session_id uuid) returns jsonb
  language sql stable security definer set search_path = ''
  return coalesce(
    (select x.secrets from public.session_secrets x where x.session_id = session_secrets_v1.session_id), '{}'
  );

-- What starting the run's runner again takes: {"run", "session"}, the run with its input. Raises PT404 run_not_found.
create function public.launch_facts_v1(run_id uuid) returns jsonb
  language plpgsql stable security definer set search_path = ''
as $$
declare
  run public.agent_runs;
begin
  select * into run from public.agent_runs r where r.id = launch_facts_v1.run_id;
  if not found then
    raise exception using errcode = 'PT404', message = 'run_not_found';
  end if;
  return jsonb_build_object('run', to_jsonb(run), 'session', private.session_facts(run.session_id));
end;
$$;

revoke all on function public.take_input_v1, public.preview_v1, public.lose_run_v1, public.next_epoch_v1,
  public.session_secrets_v1, public.launch_facts_v1 from public, anon, authenticated, service_role;
grant execute on function public.take_input_v1, public.preview_v1 to runner;
grant execute on function public.lose_run_v1, public.next_epoch_v1, public.session_secrets_v1, public.launch_facts_v1
  to service_role;
