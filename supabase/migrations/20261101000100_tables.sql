-- Sessions, runs, the log, sandboxes. Users read their own rows; every write goes through a function.

create table public.agent_sessions (
  id uuid primary key default gen_random_uuid(),
  owner uuid not null references auth.users (id) on delete cascade,
  title text check (char_length(title) between 1 and 200),
  status text not null default 'idle' check (status in ('idle', 'running', 'rescheduling', 'terminated')),
  -- The highest seq in the log. Its row lock is what makes seq contiguous.
  last_seq bigint not null default 0 check (last_seq >= 0),
  metadata jsonb not null default '{}' 
    check (jsonb_typeof(metadata) = 'object' and octet_length(metadata::text) <= 16384 and private.is_readable(metadata)),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
) with (fillfactor = 70); -- last_seq changes with every batch: room for HOT updates

create index agent_sessions_of_owner on public.agent_sessions (owner, created_at desc, id desc);

create table public.agent_runs (
  id uuid primary key default gen_random_uuid(),
  session_id uuid not null references public.agent_sessions (id) on delete cascade,
  owner uuid not null references auth.users (id) on delete cascade,
  kind text not null check (kind in ('commands')),
  status text not null default 'launching'
    check (status in ('launching', 'running', 'succeeded', 'failed', 'cancelled', 'timed_out', 'lost')),
  -- A runner started again gets a higher epoch; tokens of a lower one are refused.
  epoch integer not null default 1 check (epoch >= 1),
  -- The highest n of the runner's own numbering that the log holds.
  last_n bigint not null default 0 check (last_n >= 0),
  -- As large as the endpoint's largest body, whoever calls.
  input jsonb not null check (jsonb_typeof(input) = 'object' and pg_column_size(input) <= 16777216),
  limit_seconds integer not null check (limit_seconds between 1 and 604800),
  result jsonb check (jsonb_typeof(result) = 'object' and pg_column_size(result) <= 262144 and private.is_readable(result)),
  error jsonb check (jsonb_typeof(error) = 'object' and pg_column_size(error) <= 262144 and private.is_readable(error)),
  sandbox_id text,
  cancel_requested_at timestamptz,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  heartbeat_at timestamptz,
  ended_at timestamptz,
  deadline_at timestamptz not null,
  -- An ended run has an end, a live one has none.
  check ((ended_at is null) = (status in ('launching', 'running')))
) with (fillfactor = 70); -- last_n and heartbeat_at change with every batch

-- At most one live run per session, whatever the functions do.
create unique index agent_runs_one_live on public.agent_runs (session_id) where status in ('launching', 'running');
create index agent_runs_of_session on public.agent_runs (session_id, created_at desc);
create index agent_runs_of_owner on public.agent_runs (owner, created_at desc, id desc);

create trigger refuse_illegal_move
  before update of status on public.agent_runs
  for each row when (old.status is distinct from new.status)
  execute function private.refuse_illegal_move();

create table public.agent_events (
  session_id uuid not null references public.agent_sessions (id) on delete cascade,
  seq bigint not null check (seq >= 1),
  run_id uuid,
  -- The runner's own number; null for events that SQL writes itself.
  n bigint check (n >= 1),
  type text not null check (octet_length(type) <= 64 and type ~ '^[a-z][a-z0-9_]*([.][a-z][a-z0-9_]*)*$'),
  -- One event never fills a reader's memory, nor a broadcast's.
  data jsonb not null check (jsonb_typeof(data) = 'object' and pg_column_size(data) <= 262144),
  -- The sandbox's clock; nothing is decided by it.
  produced_at timestamptz not null default clock_timestamp(),
  created_at timestamptz not null default now(),
  primary key (session_id, seq),
  check (n is null or run_id is not null)
);

-- Twice the same event of a run cannot stand in the log, even if the function that drops repeats were wrong.
create unique index agent_events_once on public.agent_events (run_id, n) where n is not null;

create table public.sandbox_executions (
  sandbox_id text primary key check (octet_length(sandbox_id) between 1 and 128),
  run_id uuid not null references public.agent_runs (id) on delete cascade,
  session_id uuid not null references public.agent_sessions (id) on delete cascade,
  owner uuid not null references auth.users (id) on delete cascade,
  template text not null,
  started_at timestamptz not null default now(),
  ended_at timestamptz,
  end_reason text,
  check ((ended_at is null) = (end_reason is null))
);

create index sandbox_executions_of_run on public.sandbox_executions (run_id);
create index sandbox_executions_of_session on public.sandbox_executions (session_id);
create index sandbox_executions_of_owner on public.sandbox_executions (owner, started_at desc);

-- One row per Idempotency-Key and owner; the claim and what it claims commit together.
create table public.idempotency_keys (
  owner uuid not null references auth.users (id) on delete cascade,
  key text not null check (octet_length(key) between 1 and 255),
  request_hash text not null check (octet_length(request_hash) = 64),
  -- Deferred, since the claim is written before the run that it claims.
  run_id uuid not null references public.agent_runs (id) on delete cascade deferrable initially deferred,
  created_at timestamptz not null default now(),
  primary key (owner, key)
);

create index idempotency_keys_of_run on public.idempotency_keys (run_id);
