-- Admission of a question: answered from memory, by the run that answers the same question already, or by one of its own.

-- As before; research asks a model as well.
create or replace function private.estimate_microusd(kind text, seconds integer) returns bigint
  language sql stable set search_path = ''
  return private.sandbox_microusd(seconds * 1000::bigint) + case
    when kind in ('claude', 'research')
    then (select private.as_count(p.list -> 'turn_estimate_microusd') from private.price_list p)
    else 0
  end;

-- A run that is not a turn, in a session that is free: room, the run, money, and `run.created`. The last steps of an
-- admission. Raises PT429 too_many_sandboxes, PT402 budget_exceeded.
create function private.start_run(
  new_id uuid, session_id uuid, owner uuid, kind text, input jsonb, seconds integer, budget_microusd bigint
) returns public.agent_runs
  language plpgsql set search_path = ''
as $$
declare
  run public.agent_runs;
begin
  perform private.require_room(start_run.owner);
  insert into public.agent_runs (id, session_id, owner, kind, input, limit_seconds, deadline_at)
    values (
      new_id, start_run.session_id, start_run.owner, start_run.kind, start_run.input, seconds,
      now() + make_interval(secs => seconds)
    )
    returning * into run;
  perform private.reserve(run, start_run.budget_microusd);
  update public.agent_sessions s set status = 'running' where s.id = run.session_id;
  perform private.append(run.session_id, run.id, array['run.created'], array[private.created(run)]);
  return run;
end;
$$;

-- As before.
create or replace function public.admit_run_v1(
  kind text,
  input jsonb,
  limit_seconds integer,
  request_hash text,
  idempotency_key text default null,
  session_id uuid default null,
  title text default null,
  metadata jsonb default '{}',
  is_cut boolean default false,
  budget_microusd bigint default null
) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  new_id uuid := gen_random_uuid();
  of_session uuid := admit_run_v1.session_id;
  claim record;
  seconds integer;
  run public.agent_runs;
begin
  select * into claim from private.claim(
    caller, admit_run_v1.idempotency_key, admit_run_v1.request_hash, new_id, 'submit'
  );
  if not claim.is_new then
    select * into strict run from public.agent_runs r where r.id = claim.of_run;
    return jsonb_build_object('run', to_jsonb(run) - 'input', 'replayed', true);
  end if;

  seconds := private.run_seconds(caller, admit_run_v1.limit_seconds, admit_run_v1.is_cut);
  if of_session is null then
    insert into public.agent_sessions (owner, title, metadata)
      values (caller, admit_run_v1.title, coalesce(admit_run_v1.metadata, '{}'))
      returning id into of_session;
  else
    perform private.lock_free_session(of_session, caller);
  end if;
  run := private.start_run(
    new_id, of_session, caller, admit_run_v1.kind, admit_run_v1.input, seconds, admit_run_v1.budget_microusd
  );
  return jsonb_build_object('run', to_jsonb(run) - 'input', 'replayed', false);
end;
$$;

-- As before; a research task's keys are given back as well, also those of the askers who joined it.
create or replace function public.fail_launch_v1(run_id uuid, error jsonb) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.lock_existing_run(fail_launch_v1.run_id);
begin
  if run.status = 'launching' then
    perform private.append(run.session_id, run.id, array['session.error'], array[jsonb_build_object('error', fail_launch_v1.error)]);
    run := private.end_run(run.id, 'failed', null, fail_launch_v1.error);
    -- Nothing came of the request: sent again with its key, it is admitted anew.
    delete from public.idempotency_keys k where k.run_id = run.id;
    delete from public.idempotency_keys k using public.research_tasks t
      where t.run_id = run.id and k.owner = t.owner and k.subject = t.id::text;
  end if;
  return to_jsonb(run) - 'input';
end;
$$;

-- What tasks of an owner's have taken: the medians of the last 20 that a run has completed; nulls before the first.
create function private.usual_task(of_owner uuid, out seconds integer, out microusd bigint)
  language sql stable set search_path = ''
  begin atomic
    select
      ceil(percentile_cont(0.5) within group (order by extract(epoch from l.completed_at - l.created_at)::double precision)),
      ceil(percentile_cont(0.5) within group (order by c.spent_microusd::double precision))
    from (
      select t.* from public.research_tasks t
      where t.owner = of_owner and t.status = 'completed' and t.run_id is not null
      order by t.completed_at desc limit 20
    ) l join private.run_costs c on c.run_id = l.run_id;
  end;

-- How long a task will take and what it will cost, never more than it may; nothing for one that is answered. Before the
-- owner's first task: a minute, and what was reserved.
create function private.estimate_task(task public.research_tasks) returns jsonb
  language sql stable set search_path = ''
  return coalesce(
    (
      select jsonb_build_object(
        'estimated_duration_seconds', least(coalesce(u.seconds, 60), r.limit_seconds),
        'estimated_cost_microusd', least(coalesce(u.microusd, c.reserved_microusd), c.budget_microusd)
      )
      from public.agent_runs r join private.run_costs c on c.run_id = r.id, private.usual_task(task.owner) u
      where r.id = task.run_id
    ),
    '{"estimated_duration_seconds": 0, "estimated_cost_microusd": 0}'
  );

-- The task as the endpoints get it, with its run, and what the asker was told of it.
create function private.task_answer(of_task uuid, of_owner uuid, told jsonb) returns jsonb
  language plpgsql stable set search_path = ''
as $$
declare
  task public.research_tasks;
begin
  select * into task from public.research_tasks t where t.id = of_task and t.owner = of_owner;
  if not found then
    raise exception using errcode = 'PT404', message = 'task_not_found';
  end if;
  -- 384 numbers that nobody needs are not written out as text first.
  task.embedding := null;
  return told || jsonb_build_object(
    'task', to_jsonb(task) - 'embedding',
    'run', (select to_jsonb(r) - 'input' from public.agent_runs r where r.id = task.run_id)
  );
end;
$$;

-- The task in a session of its own, whose log it begins. What is missing of the row is filled in.
create function private.open_task(task public.research_tasks) returns public.research_tasks
  language plpgsql set search_path = ''
as $$
begin
  insert into public.agent_sessions (owner, title) values (task.owner, left(task.query, 200)) returning id into task.session_id;
  task.created_at := now();
  insert into public.research_tasks select (task).*;
  return task;
end;
$$;

-- Answers the task from memory: no run, no sandbox, nothing reserved. The caller of the endpoints has compared the two
-- questions; that the source is the owner's, is remembered, and speaks of the same model's similarities is decided here.
-- Raises PT404 task_not_found.
create function private.answer_from_memory(task public.research_tasks) returns public.research_tasks
  language plpgsql set search_path = ''
as $$
declare
  known public.task_results;
begin
  select r.* into known from public.task_results r join public.research_tasks t on t.id = r.task_id
    where r.task_id = task.source_task_id and r.owner = task.owner and r.embedding_model = task.embedding_model
    for key share of t;
  if not found then
    raise exception using errcode = 'PT404', message = 'task_not_found', detail = 'no such task is remembered';
  end if;
  task.status := 'completed';
  task.completed_at := now();
  task.answer := known.answer;
  task.source_age_seconds := greatest(0, extract(epoch from now() - known.created_at))::integer;
  task := private.open_task(task);
  perform private.append(
    task.session_id, null,
    array['cache.hit', 'research.answer', 'session.status_idle'],
    array[
      jsonb_build_object(
        'source_task_id', task.source_task_id, 'similarity', task.similarity, 'age_seconds', task.source_age_seconds
      ),
      task.answer,
      '{"stop_reason": {"type": "end_turn"}}'
    ]
  );
  return task;
end;
$$;

-- The owner's live task for an equal question; all null when there is none. Nobody comes between this and the insertion of
-- one: every submit of an owner's holds the owner's rate until it commits.
create function private.live_task(task public.research_tasks) returns public.research_tasks
  language sql stable set search_path = ''
  begin atomic
    select t.* from public.research_tasks t
    where t.owner = task.owner and t.question_hash = task.question_hash
      and t.is_shared and task.is_shared and t.status in ('launching', 'running');
  end;

-- A task with a run of its own. Raises PT413 too_large, PT400 invalid_request_error, PT429 too_many_sandboxes, PT402
-- budget_exceeded.
create function private.begin_task(
  task public.research_tasks, input jsonb, limit_seconds integer, is_cut boolean, budget_microusd bigint
) returns public.research_tasks
  language plpgsql set search_path = ''
as $$
begin
  -- Every sweep and every restart reads it whole.
  if pg_column_size(begin_task.input) > 262144 then
    raise exception using errcode = 'PT413', message = 'too_large';
  end if;
  task.run_id := gen_random_uuid();
  task.status := 'launching';
  task.similarity := null;
  task := private.open_task(task);
  perform private.start_run(
    task.run_id, task.session_id, task.owner, 'research', begin_task.input,
    private.run_seconds(task.owner, begin_task.limit_seconds, begin_task.is_cut), begin_task.budget_microusd
  );
  return task;
end;
$$;

-- Decides how a question is answered, once for one request; counted as a submit.
--   With `source_task_id`, a remembered task of the caller's whose question has the same answer: from memory.
--   Else, with `is_shared` and while a shared task of the caller's with the same `question_hash` is live: by that task.
--   Else by a run of its own, within the limits and the budget of admit_run_v1.
-- `embedding` is the question's, so that its answer can be remembered, and `embedding_tokens` what it took.
-- Answers {"task": without embedding, "run": without input or null, "replayed", "joined", "estimated_duration_seconds",
-- "estimated_cost_microusd"}; a replay answers its task as it is now.
-- Raises PT400 bad_embedding or invalid_request_error, PT401 not_signed_in, PT402 budget_exceeded, PT404 task_not_found,
-- PT409 idempotency_key_reused, PT413 too_large, PT429 rate_limited or too_many_sandboxes.
create function public.admit_research_v1(
  query text,
  context jsonb,
  options jsonb,
  input jsonb,
  question_hash text,
  limit_seconds integer,
  is_cut boolean,
  request_hash text,
  idempotency_key text default null,
  budget_microusd bigint default null,
  is_shared boolean default true,
  embedding extensions.vector(384) default null,
  embedding_model text default null,
  embedding_tokens bigint default 0,
  source_task_id uuid default null,
  similarity double precision default null
) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  claim record;
  task public.research_tasks;
  live public.research_tasks;
  told jsonb;
begin
  select * into claim from private.claim_subject(
    caller, admit_research_v1.idempotency_key, admit_research_v1.request_hash, gen_random_uuid()::text, 'submit'
  );
  if not claim.is_new then
    return private.task_answer(claim.subject::uuid, caller, claim.answer) || '{"replayed": true}';
  elsif not private.is_embedding(admit_research_v1.embedding) then
    raise exception using errcode = 'PT400', message = 'bad_embedding', detail = 'it has 384 numbers, and not all are 0';
  end if;
  task.id := claim.subject::uuid;
  task.owner := caller;
  task.query := admit_research_v1.query;
  task.context := coalesce(admit_research_v1.context, '[]');
  task.options := coalesce(admit_research_v1.options, '{}');
  task.question_hash := admit_research_v1.question_hash;
  task.is_shared := coalesce(admit_research_v1.is_shared, true);
  task.embedding := admit_research_v1.embedding;
  task.embedding_model := admit_research_v1.embedding_model;
  task.source_task_id := admit_research_v1.source_task_id;
  task.similarity := admit_research_v1.similarity;
  if task.source_task_id is not null then
    task := private.answer_from_memory(task);
  else
    live := private.live_task(task);
  end if;
  if live.id is not null then
    task := live;
  elsif task.source_task_id is null then
    task := private.begin_task(
      task, admit_research_v1.input, admit_research_v1.limit_seconds, admit_research_v1.is_cut,
      admit_research_v1.budget_microusd
    );
  end if;
  if admit_research_v1.embedding_tokens > 0 then
    perform public.charge_embeddings_v1(
      caller, task.session_id, admit_research_v1.embedding_model, admit_research_v1.embedding_tokens
    );
  end if;
  told := private.estimate_task(task) || jsonb_build_object('joined', live.id is not null);
  -- A key that joined a task is that task's.
  update public.idempotency_keys k set subject = task.id::text, answer = told
    where k.owner = caller and k.key = admit_research_v1.idempotency_key;
  return private.task_answer(task.id, caller, told) || '{"replayed": false}';
end;
$$;

revoke all on function public.admit_research_v1 from public, anon, authenticated, service_role;
grant execute on function public.admit_research_v1 to authenticated;
