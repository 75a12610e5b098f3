-- What the sweep asks and tells the database: which runs have fallen silent, which sandboxes nobody owns, what has expired.
-- Every age here is by the database's clock.

-- Beside agent_runs and not in it: nobody who watches a run wants to hear that a sweep looked at it.
create table public.run_repairs (
  run_id uuid primary key references public.agent_runs (id) on delete cascade,
  -- How often a dead runner was replaced.
  restarts integer not null default 0 check (restarts between 0 and 3),
  -- When a sweep began to look at the run; null once it has.
  claimed_at timestamptz
);

-- The few whose session may have a message that nobody was given.
create index agent_runs_lost on public.agent_runs (ended_at) where status = 'lost';
create index sandbox_executions_open on public.sandbox_executions (started_at) where ended_at is null;
create index idempotency_keys_by_age on public.idempotency_keys (created_at);

-- What E2B has told us already, so that nothing is done for a delivery that comes again.
create table public.hook_deliveries (
  id text primary key check (octet_length(id) between 1 and 128),
  received_at timestamptz not null default now()
);

alter table public.run_repairs enable row level security;
alter table public.run_repairs force row level security;
alter table public.hook_deliveries enable row level security;
alter table public.hook_deliveries force row level security;
-- No policy and no grant: functions only.
revoke all on public.run_repairs, public.hook_deliveries from public, anon, authenticated, service_role;

-- A runner gives a sign of life every 5 s, and repeats one that did not arrive for as long as it lives.
create function private.is_silent(run public.agent_runs) returns boolean
  language sql stable set search_path = ''
  return coalesce(run.heartbeat_at, run.created_at) < now() - interval '30 seconds';

-- The runner keeps the deadline itself, from its own start on, and has some seconds to end its commands.
create function private.is_overdue(run public.agent_runs) returns boolean
  language sql stable set search_path = ''
  return run.deadline_at < now() - interval '30 seconds';

-- Longer than all calls of a launch may take together: whoever launches this run is gone.
create function private.is_launch_lost(run public.agent_runs) returns boolean
  language sql stable set search_path = ''
  return run.status = 'launching' and run.created_at < now() - interval '120 seconds';

-- What looking at a run takes. Of the input everything but the commands, which may have megabytes.
create function private.sweep_facts(of_run uuid) returns jsonb
  language sql stable set search_path = ''
  return (
    select jsonb_build_object(
      'run', to_jsonb(r) || jsonb_build_object('input', r.input - 'commands'),
      'session', private.session_facts(r.session_id),
      'is_overdue', private.is_overdue(r),
      'is_launch_lost', private.is_launch_lost(r),
      -- False for a turn in a sandbox that an earlier one has used.
      'has_own_sandbox', exists (
        select from public.sandbox_executions x where x.sandbox_id = r.sandbox_id and x.run_id = r.id
      )
    )
    from public.agent_runs r where r.id = of_run
  );

-- Takes live runs that are silent or overdue, or, with `of_sandbox`, the live run in that sandbox, each for one sweep: what
-- one has taken no other gets until it is released, or two minutes have passed, since a sweep may die too.
-- Answers [{"run", "session", "is_overdue", "is_launch_lost", "has_own_sandbox"}].
create function public.claim_stale_runs_v1(at_most integer default 100, of_sandbox text default null) returns jsonb
  language sql security definer set search_path = ''
  begin atomic
    with due as (
      select r.* from public.agent_runs r
        left join public.run_repairs p on p.run_id = r.id
      where r.status in ('launching', 'running')
        and (p.claimed_at is null or p.claimed_at < now() - interval '120 seconds')
        and case
          when claim_stale_runs_v1.of_sandbox is null then private.is_silent(r) or private.is_overdue(r)
          else r.sandbox_id = claim_stale_runs_v1.of_sandbox
        end
      -- In one order for all, so that two sweeps cannot wait for each other.
      order by r.created_at, r.id
      limit claim_stale_runs_v1.at_most
    ), taken as (
      insert into public.run_repairs as p (run_id, claimed_at)
        select d.id, now() from due d order by d.created_at, d.id
        on conflict on constraint run_repairs_pkey do update
          set claimed_at = excluded.claimed_at
          where p.claimed_at is null or p.claimed_at < now() - interval '120 seconds'
        returning p.run_id
    )
    select coalesce(jsonb_agg(private.sweep_facts(d.id) order by d.created_at, d.id), '[]')
      from due d join taken t on t.run_id = d.id;
  end;

-- Lets the next sweep look at these runs.
create function public.release_runs_v1(run_ids uuid[]) returns void
  language sql security definer set search_path = ''
  begin atomic
    update public.run_repairs p set claimed_at = null where p.run_id = any (release_runs_v1.run_ids);
  end;

-- Gives a live run to a new runner, three times in its life: from here on the tokens of older epochs are refused, and the
-- new runner has as long as any to give a sign of life. Answers {"epoch", "is_spent"}: no epoch when the run has ended, or
-- is not at the expected one any more, or is spent.
-- Raises PT404 run_not_found.
create function public.restart_run_v1(run_id uuid, expected integer) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.lock_existing_run(restart_run_v1.run_id);
begin
  if not private.is_live(run.status) or run.epoch is distinct from restart_run_v1.expected then
    return '{"epoch": null, "is_spent": false}';
  elsif exists (select from public.run_repairs p where p.run_id = run.id and p.restarts >= 3) then
    return '{"epoch": null, "is_spent": true}';
  end if;
  insert into public.run_repairs as p (run_id, restarts) values (run.id, 1)
    on conflict on constraint run_repairs_pkey do update set restarts = p.restarts + 1;
  update public.agent_runs r set epoch = r.epoch + 1, heartbeat_at = now() where r.id = run.id returning * into run;
  return jsonb_build_object('epoch', run.epoch, 'is_spent', false);
end;
$$;

-- Ends a run that has not kept its deadline. Any other is left as it is. Raises PT404 run_not_found.
create function public.end_overdue_v1(run_id uuid) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.lock_existing_run(end_overdue_v1.run_id);
  error jsonb := jsonb_build_object(
    'type', 'run_timed_out', 'message', format('the run went over %s seconds', run.limit_seconds)
  );
begin
  if private.is_live(run.status) and private.is_overdue(run) then
    run := private.end_run(run.id, 'timed_out', null, error);
  end if;
  return to_jsonb(run) - 'input';
end;
$$;

-- Conversations whose last run went down with its sandbox while a message waited: [session id].
create function public.waiting_sessions_v1(at_most integer default 100) returns jsonb
  language sql stable security definer set search_path = ''
  return (
    select coalesce(jsonb_agg(w.id), '[]') from (
      select s.id
      from public.agent_runs r join public.agent_sessions s on s.id = r.session_id
      where r.status = 'lost' and r.error ->> 'type' = 'sandbox_gone' and r.ended_at > now() - interval '1 day'
        and s.agent_id is not null and s.status = 'idle' and s.message_seq > s.taken_seq
        and not exists (select from public.agent_runs l where l.session_id = s.id and l.created_at > r.created_at)
      order by r.ended_at
      limit waiting_sessions_v1.at_most
    ) w
  );

-- As admit_waiting_v1, for the session's owner, who is not there to ask. Nothing is admitted in a session that has ended.
-- Raises PT404 session_not_found.
create function public.admit_waiting_for_v1(session_id uuid, limit_seconds integer) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  session public.agent_sessions;
  admitted uuid;
begin
  select * into session from public.agent_sessions s where s.id = admit_waiting_for_v1.session_id for no key update;
  if not found then
    raise exception using errcode = 'PT404', message = 'session_not_found';
  end if;
  admitted := private.admit_waiting(session, admit_waiting_for_v1.limit_seconds);
  return private.input_answer(
    session.id, jsonb_build_object('seqs', '[]'::jsonb, 'run_id', admitted, 'admitted', admitted is not null), false
  );
end;
$$;

-- Sandboxes that are open and should not be: their plan has ended, or their session has. Whoever ended it has half a
-- minute to close them. Answers [{"sandbox_id", "run_id", "session_id", "reason"}].
create function public.left_sandboxes_v1(at_most integer default 500) returns jsonb
  language sql stable security definer set search_path = ''
  return (
    select coalesce(jsonb_agg(to_jsonb(l)), '[]') from (
      select x.sandbox_id, x.run_id, x.session_id, case when s.agent_id is null then r.status else 'archived' end as reason
      from public.sandbox_executions x
        join public.agent_runs r on r.id = x.run_id
        join public.agent_sessions s on s.id = x.session_id
      where x.ended_at is null
        and case
          when s.agent_id is null then r.ended_at < now() - interval '30 seconds'
          else s.status = 'terminated' and s.archived_at < now() - interval '30 seconds'
        end
      order by x.started_at
      limit left_sandboxes_v1.at_most
    ) l
  );

-- Of sandboxes that E2B has ([{"sandbox_id", "run_id", "session_id"}], as their metadata says), those with which something
-- is wrong: [{"sandbox_id", "session_id", "verdict"}].
--   stray: nobody owns it. Its session is deleted, its end is written already, or its id was never stored and its launch is over.
--   idle: a conversation's, which has been idle for longer than `idle_seconds`, and should be paused.
create function public.judge_sandboxes_v1(seen jsonb, idle_seconds integer) returns jsonb
  language sql stable security definer set search_path = ''
  return (
    select coalesce(jsonb_agg(jsonb_build_object(
        'sandbox_id', j.sandbox_id, 'session_id', j.session_id, 'verdict', j.verdict
      )), '[]')
    from (
      select e.sandbox_id, e.session_id, case
        when x.sandbox_id is not null and x.ended_at is not null then 'stray'
        when x.sandbox_id is null and (r.id is null or r.status <> 'launching' or private.is_launch_lost(r)) then 'stray'
        when s.agent_id is not null and x.sandbox_id is not null and not exists (
          select from public.agent_runs l
          where l.session_id = s.id
            -- A minute more, for E2B to pause it by itself.
            and (l.ended_at is null or l.ended_at > now() - make_interval(secs => judge_sandboxes_v1.idle_seconds + 60))
        ) then 'idle'
      end as verdict
      from jsonb_to_recordset(judge_sandboxes_v1.seen) as e (sandbox_id text, run_id uuid, session_id uuid)
        left join public.agent_runs r on r.id = e.run_id and r.session_id = e.session_id
        left join public.agent_sessions s on s.id = r.session_id
        left join public.sandbox_executions x on x.sandbox_id = e.sandbox_id
    ) j
    where j.verdict is not null
  );

-- True when this delivery is new.
create function public.take_delivery_v1(id text) returns boolean
  language plpgsql security definer set search_path = ''
as $$
begin
  insert into public.hook_deliveries (id) values (take_delivery_v1.id) on conflict do nothing;
  return found;
end;
$$;

-- Live text of more than an hour ago. Hosted Supabase drops its messages by the day, and may not let us delete them before.
create function private.delete_previews() returns bigint
  language plpgsql set search_path = ''
as $$
declare
  deleted bigint := 0;
begin
  if has_table_privilege('realtime.messages', 'delete') then
    delete from realtime.messages m
      where m.event = 'previews' and starts_with(m.topic, 'session:')
        and m.inserted_at < (now() at time zone 'utc') - interval '1 hour';
    get diagnostics deleted = row_count;
  end if;
  return deleted;
end;
$$;

-- Deletes what has had its time: idempotency keys and E2B's deliveries after 24 hours, previews after one.
-- Answers {"idempotency_keys", "deliveries", "previews"}: how many of each.
create function public.delete_expired_v1() returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  keys bigint;
  deliveries bigint;
begin
  delete from public.idempotency_keys k where k.created_at < now() - interval '24 hours';
  get diagnostics keys = row_count;
  delete from public.hook_deliveries d where d.received_at < now() - interval '24 hours';
  get diagnostics deliveries = row_count;
  return jsonb_build_object('idempotency_keys', keys, 'deliveries', deliveries, 'previews', private.delete_previews());
end;
$$;

revoke all on function public.claim_stale_runs_v1, public.release_runs_v1, public.restart_run_v1, public.end_overdue_v1,
  public.waiting_sessions_v1, public.admit_waiting_for_v1, public.left_sandboxes_v1, public.judge_sandboxes_v1,
  public.take_delivery_v1, public.delete_expired_v1 from public, anon, authenticated, service_role;
grant execute on function public.claim_stale_runs_v1, public.release_runs_v1, public.restart_run_v1, public.end_overdue_v1,
  public.waiting_sessions_v1, public.admit_waiting_for_v1, public.left_sandboxes_v1, public.judge_sandboxes_v1,
  public.take_delivery_v1, public.delete_expired_v1 to service_role;
