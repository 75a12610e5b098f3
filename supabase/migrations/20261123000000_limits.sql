-- How much one owner may: sandboxes at once, how long each lives, requests a minute, money a month. The endpoints tell what holds for the
-- deployment, a row of account_limits says otherwise for one owner. Admission is called by users themselves, so that no
-- limit is ever an argument of it.

-- What holds for everyone without a row of their own. One row, written by set_limits_v1.
create table private.deployment_limits (
  is_only boolean primary key default true check (is_only),
  max_concurrent_sandboxes integer not null default 10 check (max_concurrent_sandboxes between 0 and 100000),
  -- Null until an endpoint has told its settings: then only the schema's own limit holds.
  max_sandbox_duration_ms bigint check (max_sandbox_duration_ms between 60000 and 604800000),
  -- By how much a sandbox outlives its run's deadline.
  sandbox_margin_seconds integer not null default 0 check (sandbox_margin_seconds between 0 and 600),
  requests_per_minute integer not null default 120 check (requests_per_minute between 1 and 1000000),
  -- After which a conversation's sandbox is paused.
  idle_sandbox_seconds integer not null default 300 check (idle_sandbox_seconds between 1 and 604800),
  -- Millionths of a US dollar in a month of UTC. Null: no limit.
  max_month_microusd bigint check (max_month_microusd between 0 and 1000000000000000)
);
insert into private.deployment_limits default values;

-- One owner's exceptions. Null: as the deployment.
create table public.account_limits (
  owner uuid primary key references auth.users (id) on delete cascade,
  -- 0: nothing starts any more.
  max_concurrent_sandboxes integer check (max_concurrent_sandboxes between 0 and 100000),
  max_sandbox_duration_ms bigint check (max_sandbox_duration_ms between 60000 and 604800000),
  submits_per_minute integer check (submits_per_minute between 1 and 1000000),
  messages_per_minute integer check (messages_per_minute between 1 and 1000000),
  others_per_minute integer check (others_per_minute between 1 and 1000000),
  max_month_microusd bigint check (max_month_microusd between 0 and 1000000000000000),
  updated_at timestamptz not null default now()
);

alter table public.account_limits enable row level security;
alter table public.account_limits force row level security;

create policy "the owner may read their limits" on public.account_limits
  for select to authenticated using (owner = (select auth.uid()));

revoke all on public.account_limits from public, anon, authenticated, service_role;
grant select on public.account_limits to authenticated, service_role;

-- What holds for this owner. No exception makes a sandbox live longer than the deployment's plan at E2B allows.
create function private.limits_of(
  of_owner uuid,
  out max_concurrent_sandboxes integer,
  out max_sandbox_duration_ms bigint,
  out max_run_seconds integer,
  out submits_per_minute integer,
  out messages_per_minute integer,
  out others_per_minute integer,
  out max_month_microusd bigint
)
  language sql stable set search_path = ''
  begin atomic
    select
      coalesce(a.max_concurrent_sandboxes, d.max_concurrent_sandboxes),
      least(a.max_sandbox_duration_ms, d.max_sandbox_duration_ms),
      -- One second at least: a run of less is no run, whatever the margin is.
      case
        when num_nonnulls(a.max_sandbox_duration_ms, d.max_sandbox_duration_ms) > 0
        then greatest(1, least(a.max_sandbox_duration_ms, d.max_sandbox_duration_ms) / 1000 - d.sandbox_margin_seconds)
      end,
      coalesce(a.submits_per_minute, d.requests_per_minute),
      coalesce(a.messages_per_minute, d.requests_per_minute),
      coalesce(a.others_per_minute, d.requests_per_minute),
      coalesce(a.max_month_microusd, d.max_month_microusd)
    from private.deployment_limits d left join public.account_limits a on a.owner = of_owner;
  end;

-- The deployment's settings, as its endpoints have read them. Writes only what is new. Raises 23514 for what makes no sense.
create function public.set_limits_v1(
  max_concurrent_sandboxes integer,
  max_sandbox_duration_ms bigint,
  sandbox_margin_seconds integer,
  requests_per_minute integer,
  idle_sandbox_seconds integer,
  max_month_microusd bigint
) returns void
  language sql security definer set search_path = ''
  begin atomic
    update private.deployment_limits d
      set (
        max_concurrent_sandboxes, max_sandbox_duration_ms, sandbox_margin_seconds, requests_per_minute,
        idle_sandbox_seconds, max_month_microusd
      ) = (
        set_limits_v1.max_concurrent_sandboxes, set_limits_v1.max_sandbox_duration_ms,
        set_limits_v1.sandbox_margin_seconds, set_limits_v1.requests_per_minute,
        set_limits_v1.idle_sandbox_seconds, set_limits_v1.max_month_microusd
      )
      where (
        d.max_concurrent_sandboxes, d.max_sandbox_duration_ms, d.sandbox_margin_seconds, d.requests_per_minute,
        d.idle_sandbox_seconds, d.max_month_microusd
      ) is distinct from (
        set_limits_v1.max_concurrent_sandboxes, set_limits_v1.max_sandbox_duration_ms,
        set_limits_v1.sandbox_margin_seconds, set_limits_v1.requests_per_minute,
        set_limits_v1.idle_sandbox_seconds, set_limits_v1.max_month_microusd
      );
  end;

-- The live runs of an owner, of plans and of turns: each has a sandbox, or is about to. A conversation's paused one has none.
create index agent_runs_live_of_owner on public.agent_runs (owner) where status in ('launching', 'running');

create function private.live_sandboxes(of_owner uuid) returns integer
  language sql stable set search_path = ''
  return (select count(*)::integer from public.agent_runs r where r.owner = of_owner and private.is_live(r.status));

-- Whether one more sandbox may start; then none of the owner's other admissions is decided until this transaction ends.
-- Locks are taken in one order: a key's claim, the owner's rate, the session, and this one last.
create function private.has_room(of_owner uuid) returns boolean
  language plpgsql set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('sandboxes:' || of_owner, 0));
  -- A statement of its own: it sees what was committed while the lock was waited for.
  return private.live_sandboxes(of_owner) < (select l.max_concurrent_sandboxes from private.limits_of(of_owner) l);
end;
$$;

-- Raises PT429 too_many_sandboxes.
create function private.require_room(of_owner uuid) returns void
  language plpgsql set search_path = ''
as $$
begin
  if not private.has_room(of_owner) then
    raise exception using
      errcode = 'PT429', message = 'too_many_sandboxes',
      detail = format(
        'at most %s sandboxes may run at once', (select l.max_concurrent_sandboxes from private.limits_of(of_owner) l)
      );
  end if;
end;
$$;

-- How long a run of the owner's lasts that was asked for so long. One that lasts longer than it may is cut, or, where
-- somebody named its length, refused: PT400 invalid_request_error, whose hint is the field's name.
create function private.run_seconds(of_owner uuid, asked integer, is_cut boolean) returns integer
  language plpgsql set search_path = ''
as $$
declare
  longest integer := (select l.max_run_seconds from private.limits_of(of_owner) l);
begin
  -- Nothing asked is the schema's to refuse, and so is what is too long before any endpoint has told the deployment's limit.
  if coalesce(asked <= longest, true) then
    return asked;
  elsif is_cut then
    return longest;
  end if;
  raise exception using
    errcode = 'PT400', message = 'invalid_request_error', hint = 'timeout',
    detail = format('a run may last %s seconds here', longest);
end;
$$;

-- What holds for an owner, as limits_of, and how many of their sandboxes are live now.
create function private.limits_answer(of_owner uuid) returns jsonb
  language sql stable set search_path = ''
  return (
    select to_jsonb(l) || jsonb_build_object('live_sandboxes', private.live_sandboxes(of_owner))
    from private.limits_of(of_owner) l
  );

-- What holds for the caller. Raises PT401 not_signed_in.
create function public.read_limits_v1() returns jsonb
  language sql stable security definer set search_path = ''
  return private.limits_answer(private.caller());

-- Who runs the deployment: a user whose app_metadata, which users cannot write, says so. Raises PT401 not_signed_in, PT403
-- not_an_operator.
create function private.require_operator() returns void
  language plpgsql stable set search_path = ''
as $$
begin
  if not exists (
    select from auth.users u where u.id = private.caller() and u.raw_app_meta_data ->> 'sandstream_role' = 'admin'
  ) then
    raise exception using errcode = 'PT403', message = 'not_an_operator', detail = 'only an operator of this deployment may';
  end if;
end;
$$;

-- One owner's exceptions, all of them: what is left out is as the deployment again. Answers as read_limits_v1, with the owner.
-- Raises as require_operator, PT404 owner_not_found, 23514 for what makes no sense.
create function public.set_account_limits_v1(
  owner uuid,
  max_concurrent_sandboxes integer default null,
  max_sandbox_duration_ms bigint default null,
  submits_per_minute integer default null,
  messages_per_minute integer default null,
  others_per_minute integer default null,
  max_month_microusd bigint default null
) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
begin
  perform private.require_operator();
  if not exists (select from auth.users u where u.id = set_account_limits_v1.owner) then
    raise exception using errcode = 'PT404', message = 'owner_not_found';
  end if;
  insert into public.account_limits as a (
    owner, max_concurrent_sandboxes, max_sandbox_duration_ms, submits_per_minute, messages_per_minute, others_per_minute,
    max_month_microusd
  ) values (
    set_account_limits_v1.owner, set_account_limits_v1.max_concurrent_sandboxes,
    set_account_limits_v1.max_sandbox_duration_ms, set_account_limits_v1.submits_per_minute,
    set_account_limits_v1.messages_per_minute, set_account_limits_v1.others_per_minute,
    set_account_limits_v1.max_month_microusd
  )
  on conflict on constraint account_limits_pkey do update set
    max_concurrent_sandboxes = excluded.max_concurrent_sandboxes,
    max_sandbox_duration_ms = excluded.max_sandbox_duration_ms,
    submits_per_minute = excluded.submits_per_minute,
    messages_per_minute = excluded.messages_per_minute,
    others_per_minute = excluded.others_per_minute,
    max_month_microusd = excluded.max_month_microusd,
    updated_at = now();
  return private.limits_answer(set_account_limits_v1.owner) || jsonb_build_object('owner', set_account_limits_v1.owner);
end;
$$;

revoke all on function public.set_limits_v1, public.read_limits_v1, public.set_account_limits_v1
  from public, anon, authenticated, service_role;
grant execute on function public.set_limits_v1 to service_role;
grant execute on function public.read_limits_v1, public.set_account_limits_v1 to authenticated;
