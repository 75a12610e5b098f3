-- How much one owner may: sandboxes at once, how long each lives, requests a minute. The endpoints tell what holds for the
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
  requests_per_minute integer not null default 120 check (requests_per_minute between 1 and 1000000)
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
  out others_per_minute integer
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
      coalesce(a.others_per_minute, d.requests_per_minute)
    from private.deployment_limits d left join public.account_limits a on a.owner = of_owner;
  end;

-- The deployment's settings, as its endpoints have read them. Writes only what is new. Raises 23514 for what makes no sense.
create function public.set_limits_v1(
  max_concurrent_sandboxes integer, max_sandbox_duration_ms bigint, sandbox_margin_seconds integer, requests_per_minute integer
) returns void
  language sql security definer set search_path = ''
  begin atomic
    update private.deployment_limits d
      set (max_concurrent_sandboxes, max_sandbox_duration_ms, sandbox_margin_seconds, requests_per_minute) = (
        set_limits_v1.max_concurrent_sandboxes, set_limits_v1.max_sandbox_duration_ms,
        set_limits_v1.sandbox_margin_seconds, set_limits_v1.requests_per_minute
      )
      where (d.max_concurrent_sandboxes, d.max_sandbox_duration_ms, d.sandbox_margin_seconds, d.requests_per_minute)
        is distinct from (
          set_limits_v1.max_concurrent_sandboxes, set_limits_v1.max_sandbox_duration_ms,
          set_limits_v1.sandbox_margin_seconds, set_limits_v1.requests_per_minute
        );
  end;

-- One owner's exceptions, all of them: what is left out is as the deployment again. Raises 23503 for nobody's id.
create function public.set_account_limits_v1(
  owner uuid,
  max_concurrent_sandboxes integer default null,
  max_sandbox_duration_ms bigint default null,
  submits_per_minute integer default null,
  messages_per_minute integer default null,
  others_per_minute integer default null
) returns jsonb
  language sql security definer set search_path = ''
  begin atomic
    insert into public.account_limits as a (
      owner, max_concurrent_sandboxes, max_sandbox_duration_ms, submits_per_minute, messages_per_minute, others_per_minute
    ) values (
      set_account_limits_v1.owner, set_account_limits_v1.max_concurrent_sandboxes,
      set_account_limits_v1.max_sandbox_duration_ms, set_account_limits_v1.submits_per_minute,
      set_account_limits_v1.messages_per_minute, set_account_limits_v1.others_per_minute
    )
    on conflict on constraint account_limits_pkey do update set
      max_concurrent_sandboxes = excluded.max_concurrent_sandboxes,
      max_sandbox_duration_ms = excluded.max_sandbox_duration_ms,
      submits_per_minute = excluded.submits_per_minute,
      messages_per_minute = excluded.messages_per_minute,
      others_per_minute = excluded.others_per_minute,
      updated_at = now()
    returning to_jsonb(a);
  end;

revoke all on function public.set_limits_v1, public.set_account_limits_v1 from public, anon, authenticated, service_role;
grant execute on function public.set_limits_v1, public.set_account_limits_v1 to service_role;
