-- Research: questions in words, the runs that answer them, and the memory of answers, by which a question that was asked
-- before is answered again without a run.

create extension if not exists vector with schema extensions;

do $$
begin
  -- Before 0.8 an index gives the nearest rows of everyone, and only then are another owner's taken out.
  if (
    select string_to_array(e.extversion, '.')::integer[] < array[0, 8] from pg_catalog.pg_extension e where e.extname = 'vector'
  ) then
    raise exception 'pgvector 0.8 or newer is needed: alter extension vector update';
  end if;
end;
$$;

-- What similarities can be computed of. All zeros have no direction, and squares of what is too large are no numbers.
create function private.is_embedding(given extensions.vector) returns boolean
  language sql immutable parallel safe
  return extensions.vector_dims(given) = 384 and extensions.vector_norm(given) between 1e-9 and 1e9;

create table public.research_tasks (
  id uuid primary key default gen_random_uuid(),
  session_id uuid not null unique references public.agent_sessions (id) on delete cascade,
  owner uuid not null references auth.users (id) on delete cascade,
  -- Null for a task that was answered from memory. Deferred, since no run of research is taken before its task.
  run_id uuid unique references public.agent_runs (id) on delete cascade deferrable initially deferred,
  -- The run's, which is `completed` where the run has succeeded.
  status text not null
    check (status in ('launching', 'running', 'completed', 'failed', 'cancelled', 'timed_out', 'lost')),
  query text not null check (char_length(query) between 1 and 8000 and query ~ '[^[:space:]]'),
  -- Texts.
  context jsonb not null default '[]' check (
    jsonb_typeof(context) = 'array' and octet_length(context::text) <= 65536
    and not jsonb_path_exists(context, 'strict $[*] ? (@.type() != "string")')
  ),
  options jsonb not null default '{}'
    check (jsonb_typeof(options) = 'object' and octet_length(options::text) <= 16384 and private.is_readable(options)),
  -- SHA-256 of all that the answer depends on, in hex: equal questions share a run.
  question_hash text not null check (question_hash ~ '^[0-9a-f]{64}$'),
  is_shared boolean not null,
  -- The question's, and the model's name: two models' embeddings do not compare.
  embedding extensions.vector(384) check (private.is_embedding(embedding)),
  embedding_model text check (octet_length(embedding_model) between 1 and 200),
  -- From memory: of which task, how similar the two questions are, and how old the answer was. The task may be deleted.
  source_task_id uuid references public.research_tasks (id) on delete set null,
  similarity double precision check (similarity between -1 and 1),
  source_age_seconds integer check (source_age_seconds >= 0),
  -- The data of the run's last research.answer.
  answer jsonb check (jsonb_typeof(answer) = 'object' and pg_column_size(answer) <= 262144),
  error jsonb check (jsonb_typeof(error) = 'object' and pg_column_size(error) <= 262144),
  created_at timestamptz not null default now(),
  completed_at timestamptz,
  constraint research_tasks_embedded check ((embedding is null) = (embedding_model is null)),
  constraint research_tasks_end check ((completed_at is null) = (status in ('launching', 'running'))),
  constraint research_tasks_answered check (answer is null or status = 'completed'),
  constraint research_tasks_source check (source_task_id is null or run_id is null),
  -- Without a run there is an answer, and where it came from.
  constraint research_tasks_remembered check (
    case when run_id is null then num_nulls(similarity, source_age_seconds, answer) = 0
    else num_nonnulls(similarity, source_age_seconds) = 0 end
  )
);

create index research_tasks_of_owner on public.research_tasks (owner, created_at desc, id desc);
create index research_tasks_of_source on public.research_tasks (source_task_id);
create index research_tasks_completed on public.research_tasks (owner, completed_at desc)
  where status = 'completed' and run_id is not null;
-- One run for equal questions, whatever the functions do.
create unique index research_tasks_one_live on public.research_tasks (owner, question_hash)
  where is_shared and status in ('launching', 'running');

-- The memory: one row for each task whose run has answered it.
create table public.task_results (
  task_id uuid primary key references public.research_tasks (id) on delete cascade,
  owner uuid not null references auth.users (id) on delete cascade,
  answer jsonb not null check (jsonb_typeof(answer) = 'object' and pg_column_size(answer) <= 262144),
  embedding extensions.vector(384) not null check (private.is_embedding(embedding)),
  embedding_model text not null check (octet_length(embedding_model) between 1 and 200),
  created_at timestamptz not null default now()
);
-- A search reads every embedding of one owner's: they stay in their rows, and the answers leave.
alter table public.task_results alter column embedding set storage plain;

create index task_results_of_owner on public.task_results (owner, embedding_model, created_at desc);
create index task_results_nearest on public.task_results using hnsw (embedding extensions.vector_cosine_ops);

alter table public.research_tasks enable row level security;
alter table public.research_tasks force row level security;
alter table public.task_results enable row level security;
alter table public.task_results force row level security;

create policy "the owner may read a research task" on public.research_tasks
  for select to authenticated using (owner = (select auth.uid()));

create policy "a watcher may read the task of its session" on public.research_tasks
  for select to watcher using (session_id = (select private.watched_session()));

create policy "the owner may read what is remembered" on public.task_results
  for select to authenticated using (owner = (select auth.uid()));

revoke all on public.research_tasks, public.task_results from public, anon, authenticated, service_role;
grant select on public.research_tasks, public.task_results to authenticated, service_role;
grant select on public.research_tasks to watcher;

alter table public.agent_runs drop constraint agent_runs_kind_check;
alter table public.agent_runs add constraint agent_runs_kind_check check (kind in ('commands', 'claude', 'research'));

-- As before; and nobody admits a run of research without its task.
create or replace function private.refuse_foreign_kind() returns trigger
  language plpgsql set search_path = ''
as $$
declare
  is_conversation boolean := (select s.agent_id is not null from public.agent_sessions s where s.id = new.session_id);
begin
  if new.kind = 'claude' and not is_conversation then
    raise exception using errcode = 'PT409', message = 'not_a_conversation', detail = 'the session has no agent';
  elsif new.kind <> 'claude' and is_conversation then
    raise exception using errcode = 'PT409', message = 'is_a_conversation', detail = 'the session takes messages, not plans';
  elsif new.kind = 'research' and not exists (
    select from public.research_tasks t where t.run_id = new.id and t.session_id = new.session_id
  ) then
    raise exception using errcode = 'PT409', message = 'not_a_task', detail = 'research begins with its question';
  end if;
  return new;
end;
$$;

-- What a run has answered at last; null when it has not. Another run's answer is none of its own.
create function private.last_answer(run public.agent_runs) returns jsonb
  language sql stable set search_path = ''
  return (
    select e.data from public.agent_events e
    where e.session_id = run.session_id and e.run_id = run.id and e.type = 'research.answer'
    order by e.seq desc limit 1
  );

-- A task follows its run. With the run's end its answer is remembered, in the run's own transaction: by nobody who would
-- have to come back for it. A task whose run shall stop is shared no more: who asks now wants an answer.
create function private.follow_run() returns trigger
  language plpgsql security definer set search_path = ''
as $$
declare
  task public.research_tasks;
begin
  update public.research_tasks t
    set
      status = case new.status when 'succeeded' then 'completed' else new.status end,
      is_shared = t.is_shared and new.cancel_requested_at is null,
      answer = case when new.status = 'succeeded' then private.last_answer(new) end,
      error = new.error,
      completed_at = new.ended_at
    where t.run_id = new.id
    returning * into task;
  -- An answer that says itself that something is missing would keep the next asker from finding it.
  if num_nulls(task.answer, task.embedding) = 0 and task.answer -> 'is_complete' is distinct from 'false' then
    insert into public.task_results (task_id, owner, answer, embedding, embedding_model)
      values (task.id, task.owner, task.answer, task.embedding, task.embedding_model)
      on conflict do nothing;
  end if;
  return null;
end;
$$;

create trigger follow_run
  after update of status, cancel_requested_at on public.agent_runs
  for each row
  when (
    new.kind = 'research'
    and (old.status, old.cancel_requested_at) is distinct from (new.status, new.cancel_requested_at)
  )
  execute function private.follow_run();
