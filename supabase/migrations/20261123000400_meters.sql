-- What sandboxes cost while they run: metered from their start to their end, at the end of every run, and not while they are
-- paused. Every clock here is the database's.

-- The run that a sandbox works for, or worked for last.
create function private.last_run_in(execution public.sandbox_executions) returns public.agent_runs
  language plpgsql stable set search_path = ''
as $$
declare
  run public.agent_runs;
begin
  select * into run from public.agent_runs r
    where r.session_id = execution.session_id and r.sandbox_id = execution.sandbox_id
    order by r.created_at desc limit 1;
  return run;
end;
$$;

-- How long a sandbox ran that nothing works in: E2B pauses it by itself.
create function private.idle_end(metered_at timestamptz) returns timestamptz
  language sql stable set search_path = ''
  return metered_at + make_interval(secs => (select d.idle_sandbox_seconds from private.deployment_limits d));

-- Charges a sandbox for the time since it was metered, `until` at the latest: answers how long that was and what it cost.
-- One that works for nobody is charged for no longer than it stays awake. The caller holds the session's lock.
create function private.charge_sandbox(
  execution public.sandbox_executions, until timestamptz, out milliseconds bigint, out microusd bigint
)
  language plpgsql set search_path = ''
as $$
declare
  run public.agent_runs := private.last_run_in(execution);
  spent public.ledger;
begin
  if coalesce(run.ended_at < now(), true) then
    until := least(until, private.idle_end(execution.metered_at));
  end if;
  milliseconds := greatest(0, coalesce(extract(epoch from until - execution.metered_at) * 1000, 0));
  microusd := private.sandbox_microusd(milliseconds);
  if milliseconds > 0 then
    spent.owner := execution.owner;
    spent.session_id := execution.session_id;
    spent.run_id := coalesce(run.id, execution.run_id);
    spent.kind := 'sandbox';
    spent.quantity := jsonb_build_object('milliseconds', milliseconds);
    spent.is_known := true;
    spent.amount_microusd := microusd;
    perform private.spend(spent);
  end if;
end;
$$;

-- The same, written down with the sandbox, which is metered on or not.
create function private.meter(of_sandbox text, until timestamptz, goes_on boolean) returns void
  language plpgsql set search_path = ''
as $$
declare
  execution public.sandbox_executions;
  charged record;
begin
  select * into execution from public.sandbox_executions x where x.sandbox_id = of_sandbox for no key update;
  select * into charged from private.charge_sandbox(execution, meter.until);
  update public.sandbox_executions x
    set
      metered_at = case when meter.goes_on and x.ended_at is null then greatest(now(), x.metered_at) end,
      running_ms = x.running_ms + charged.milliseconds,
      cost_microusd = x.cost_microusd + charged.microusd
    where x.sandbox_id = of_sandbox;
end;
$$;

-- Gives back what the run was promised and did not use. The caller holds the session's lock. Again it changes nothing.
create function private.settle(run public.agent_runs) returns boolean
  language plpgsql set search_path = ''
as $$
declare
  promised bigint;
begin
  update private.run_costs c set settled_at = now() where c.run_id = run.id and c.settled_at is null
    returning c.reserved_microusd into promised;
  if not found then
    return false;
  end if;
  insert into public.ledger (owner, session_id, run_id, entry, amount_microusd)
    values (run.owner, run.session_id, run.id, 'settle', promised);
  return true;
end;
$$;

create function private.reached(scope text, spent bigint, of_limit bigint) returns jsonb
  language sql immutable parallel safe
  return jsonb_build_object('scope', scope, 'spent_microusd', spent, 'limit_microusd', of_limit);

-- Which budget a live run has used up: {"scope", "spent_microusd", "limit_microusd"}, or null. A run is not stopped by its
-- month's end while it uses what it was promised.
create function private.budget_reached(run public.agent_runs) returns jsonb
  language plpgsql stable set search_path = ''
as $$
declare
  cost private.run_costs;
  session public.agent_sessions;
  accrued bigint;
  monthly bigint;
  used bigint;
begin
  select * into cost from private.run_costs c where c.run_id = run.id and c.settled_at is null;
  if not found then
    return null;
  end if;
  accrued := private.accrued_microusd(run.sandbox_id);
  if cost.spent_microusd + accrued >= cost.budget_microusd then
    return private.reached('run', cost.spent_microusd + accrued, cost.budget_microusd);
  end if;
  select * into session from public.agent_sessions s where s.id = run.session_id;
  if session.cost_microusd + accrued >= session.budget_microusd then
    return private.reached('session', session.cost_microusd + accrued, session.budget_microusd);
  end if;
  monthly := (select l.max_month_microusd from private.limits_of(run.owner) l);
  if monthly is null or cost.spent_microusd + accrued < cost.reserved_microusd then
    return null;
  end if;
  used := private.spent_this_month(run.owner) + private.reserved_now(run.owner);
  return case when used >= monthly then private.reached('month', used, monthly) end;
end;
$$;

-- What the runner learns from every answer. input_seq: the last thing that was said, for it to take. budget_reached: why it
-- has to stop now, or null.
create or replace function private.run_answer(run public.agent_runs) returns jsonb
  language sql stable set search_path = ''
  return (
    select jsonb_build_object(
      'status', run.status,
      'last_n', run.last_n,
      'last_seq', s.last_seq,
      'input_seq', s.input_seq,
      'cancel_requested', run.cancel_requested_at is not null,
      'budget_reached', case when private.is_live(run.status) then private.budget_reached(run) end
    )
    from public.agent_sessions s where s.id = run.session_id
  );

-- The one place where a run becomes terminal. The caller holds the session's lock. The result may say why the session
-- rests (`stop_reason`). Its sandbox is charged, up to its last sign of life where it was lost, and the rest of what it was
-- promised is given back.
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
  perform private.meter(
    run.sandbox_id, case when to_status = 'lost' then coalesce(run.heartbeat_at, run.created_at) else now() end,
    to_status <> 'lost'
  );
  perform private.settle(run);
  perform private.append(
    run.session_id, run.id,
    array['run.' || to_status, 'session.status_idle'],
    array[
      jsonb_build_object('result', with_result, 'error', with_error),
      jsonb_build_object('stop_reason', stop_reason)
    ]
  );
  update public.agent_sessions s set status = 'idle' where s.id = run.session_id and s.status <> 'terminated';
  return run;
end;
$$;

-- As before, and from here on the sandbox is metered. Raises PT404 run_not_found.
create or replace function public.record_sandbox_v1(run_id uuid, sandbox_id text, template text) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.lock_existing_run(record_sandbox_v1.run_id);
begin
  -- What it was awake for after the run before is that run's.
  perform private.meter(record_sandbox_v1.sandbox_id, now(), false);
  update public.agent_runs r set sandbox_id = record_sandbox_v1.sandbox_id where r.id = run.id returning * into run;
  insert into public.sandbox_executions (sandbox_id, run_id, session_id, owner, template)
    values (record_sandbox_v1.sandbox_id, run.id, run.session_id, run.owner, record_sandbox_v1.template)
    on conflict on constraint sandbox_executions_pkey do nothing;
  update public.sandbox_executions x set metered_at = now() where x.sandbox_id = record_sandbox_v1.sandbox_id and x.ended_at is null;
  return to_jsonb(run) - 'input';
end;
$$;

-- The sandbox is gone, and why; it is charged up to now. The first reason stays.
create or replace function public.close_sandbox_v1(sandbox_id text, reason text) returns void
  language plpgsql security definer set search_path = ''
as $$
begin
  perform from public.agent_sessions s
    join public.sandbox_executions x on x.session_id = s.id
    where x.sandbox_id = close_sandbox_v1.sandbox_id
    for no key update of s;
  perform private.meter(close_sandbox_v1.sandbox_id, now(), false);
  update public.sandbox_executions x set ended_at = now(), end_reason = close_sandbox_v1.reason
    where x.sandbox_id = close_sandbox_v1.sandbox_id and x.ended_at is null;
end;
$$;

-- A session that is deleted takes its sandboxes' rows with it: what they have run is charged first.
create function private.charge_deleted() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  -- With an owner goes their ledger.
  if exists (select from auth.users u where u.id = old.owner) then
    perform private.charge_sandbox(old, now());
  end if;
  return old;
end;
$$;

create trigger charge_deleted before delete on public.sandbox_executions
  for each row execute function private.charge_deleted();

-- A sandbox that must be paused by now, and that nothing works in.
create function private.is_idle_sandbox(execution public.sandbox_executions) returns boolean
  language sql stable set search_path = ''
  return coalesce(private.idle_end(execution.metered_at) < now(), false) and not exists (
    select from public.agent_runs r
    where r.session_id = execution.session_id and r.sandbox_id = execution.sandbox_id and private.is_live(r.status)
  );

-- What a crash left: reservations of runs that have ended, and meters of sandboxes that are paused by now; a hundred of each.
-- Answers {"reservations", "sandboxes"}: how many there were. Two at once share the work, owner by owner, so that neither
-- waits for a month that the other holds.
create function public.settle_v1() returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  run public.agent_runs;
  due public.sandbox_executions;
  reservations integer := 0;
  sandboxes integer := 0;
begin
  for run in
    select r.* from private.run_costs c join public.agent_runs r on r.id = c.run_id
      join public.agent_sessions s on s.id = r.session_id
      where c.settled_at is null and not private.is_live(r.status)
      order by s.owner, s.id limit 100 for no key update of s skip locked
  loop
    reservations := reservations + private.settle(run)::integer;
  end loop;
  for due in
    select x.* from public.sandbox_executions x join public.agent_sessions s on s.id = x.session_id
      where private.is_idle_sandbox(x)
      order by s.owner, s.id limit 100 for no key update of s skip locked
  loop
    -- Looked at again under the lock: a message may have woken it since.
    if exists (
      select from public.sandbox_executions x where x.sandbox_id = due.sandbox_id and private.is_idle_sandbox(x)
    ) then
      perform private.meter(due.sandbox_id, now(), false);
      sandboxes := sandboxes + 1;
    end if;
  end loop;
  return jsonb_build_object('reservations', reservations, 'sandboxes', sandboxes);
end;
$$;

revoke all on function public.settle_v1 from public, anon, authenticated, service_role;
grant execute on function public.settle_v1 to service_role;
