-- The life of a run outside its sandbox: admitted and cancelled by its owner; recorded, failed and given a
-- higher epoch by the control plane.

-- The request's claim on its key. True when it is new; false when the same request claimed it before.
-- Concurrent claims of one key wait for the first to commit. Raises PT409 idempotency_key_reused.
create function private.claim(of_owner uuid, of_key text, of_hash text, inout of_run uuid, out is_new boolean)
  language plpgsql set search_path = ''
as $$
declare
  held public.idempotency_keys;
begin
  is_new := true;
  if of_key is null then
    return;
  end if;
  insert into public.idempotency_keys (owner, key, request_hash, run_id)
    values (of_owner, of_key, of_hash, of_run)
    on conflict (owner, key) do nothing;
  if found then
    return;
  end if;
  is_new := false;
  select * into strict held from public.idempotency_keys k where k.owner = of_owner and k.key = of_key;
  if held.request_hash <> of_hash then
    raise exception using errcode = 'PT409', message = 'idempotency_key_reused', detail = 'the key was used for another request';
  end if;
  of_run := held.run_id;
end;
$$;

-- Who is signed in. A token outlives the user that it was made for, and is then nobody's.
create function private.caller() returns uuid
  language plpgsql stable set search_path = ''
as $$
begin
  if not exists (select from auth.users u where u.id = auth.uid()) then
    raise exception using errcode = 'PT401', message = 'not_signed_in';
  end if;
  return auth.uid();
end;
$$;

-- The caller's own session, locked and free for a run. Raises PT404 session_not_found, PT409 session_terminated or session_busy.
create function private.lock_free_session(of_session uuid, of_owner uuid) returns void
  language plpgsql set search_path = ''
as $$
declare
  found_status text;
begin
  select s.status into found_status from public.agent_sessions s where s.id = of_session and s.owner = of_owner for no key update;
  if not found then
    raise exception using errcode = 'PT404', message = 'session_not_found';
  elsif found_status = 'terminated' then
    raise exception using errcode = 'PT409', message = 'session_terminated';
  elsif exists (select from public.agent_runs r where r.session_id = of_session and private.is_live(r.status)) then
    raise exception using errcode = 'PT409', message = 'session_busy', detail = 'the session has a live run';
  end if;
end;
$$;

-- Decides whether a run may start, and is its first durable write: the key's claim, the session, the run and
-- `run.created` commit together. The same key and request answer with the run that was admitted first.
-- Raises PT401 not_signed_in, PT404 session_not_found, PT409 idempotency_key_reused, session_busy or session_terminated.
create function public.admit_run_v1(
  kind text,
  input jsonb,
  limit_seconds integer,
  request_hash text,
  idempotency_key text default null,
  session_id uuid default null,
  title text default null,
  metadata jsonb default '{}'
) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  new_id uuid := gen_random_uuid();
  of_session uuid := admit_run_v1.session_id;
  claim record;
  run public.agent_runs;
begin
  select * into claim from private.claim(caller, admit_run_v1.idempotency_key, admit_run_v1.request_hash, new_id);
  if not claim.is_new then
    select * into strict run from public.agent_runs r where r.id = claim.of_run;
    return jsonb_build_object('run', to_jsonb(run) - 'input', 'replayed', true);
  end if;

  if of_session is null then
    insert into public.agent_sessions (owner, title, metadata)
      values (caller, admit_run_v1.title, coalesce(admit_run_v1.metadata, '{}'))
      returning id into of_session;
  else
    perform private.lock_free_session(of_session, caller);
  end if;
  insert into public.agent_runs (id, session_id, owner, kind, input, limit_seconds, deadline_at)
    values (
      new_id, of_session, caller, admit_run_v1.kind, admit_run_v1.input, admit_run_v1.limit_seconds,
      now() + make_interval(secs => admit_run_v1.limit_seconds)
    )
    returning * into run;
  update public.agent_sessions s set status = 'running' where s.id = of_session;
  perform private.append(
    of_session, run.id, array['run.created'],
    array[jsonb_build_object('run_id', run.id, 'kind', run.kind, 'limit_seconds', run.limit_seconds)]
  );
  return jsonb_build_object('run', to_jsonb(run) - 'input', 'replayed', false);
end;
$$;

-- Asks a live run to stop. The runner learns of it by its doorbell or its next answer. Asking again changes nothing.
-- Raises PT401 not_signed_in, PT404 run_not_found, PT409 run_finished or idempotency_key_reused.
create function public.request_cancel_v1(run_id uuid, request_hash text, idempotency_key text default null) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  caller uuid := private.caller();
  claim record;
  run public.agent_runs;
begin
  if not exists (select from public.agent_runs r where r.id = request_cancel_v1.run_id and r.owner = caller) then
    raise exception using errcode = 'PT404', message = 'run_not_found';
  end if;
  select * into claim from private.claim(caller, request_cancel_v1.idempotency_key, request_cancel_v1.request_hash, request_cancel_v1.run_id);
  if claim.of_run <> request_cancel_v1.run_id then
    raise exception using errcode = 'PT409', message = 'idempotency_key_reused', detail = 'the key was used for another run';
  end if;
  run := private.lock_run(request_cancel_v1.run_id);
  if claim.is_new and not private.is_live(run.status) then
    raise exception using errcode = 'PT409', message = 'run_finished', detail = format('the run has %s', run.status);
  end if;
  if claim.is_new and run.cancel_requested_at is null then
    update public.agent_runs r set cancel_requested_at = now() where r.id = run.id returning * into run;
    perform private.append(run.session_id, run.id, array['run.cancel_requested'], array['{}'::jsonb]);
  end if;
  return to_jsonb(run) - 'input';
end;
$$;

create function private.lock_existing_run(of_run uuid) returns public.agent_runs
  language plpgsql set search_path = ''
as $$
declare
  run public.agent_runs := private.lock_run(of_run);
begin
  if run.id is null then
    raise exception using errcode = 'PT404', message = 'run_not_found';
  end if;
  return run;
end;
$$;

-- Stores the sandbox before anything is started in it. Answers with the run, so that the launch sees a run that ended meanwhile.
-- Raises PT404 run_not_found.
create function public.record_sandbox_v1(run_id uuid, sandbox_id text, template text) returns jsonb
  language plpgsql security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.lock_existing_run(record_sandbox_v1.run_id);
begin
  update public.agent_runs r set sandbox_id = record_sandbox_v1.sandbox_id where r.id = run.id returning * into run;
  insert into public.sandbox_executions (sandbox_id, run_id, session_id, owner, template)
    values (record_sandbox_v1.sandbox_id, run.id, run.session_id, run.owner, record_sandbox_v1.template)
    on conflict on constraint sandbox_executions_pkey do nothing;
  return to_jsonb(run) - 'input';
end;
$$;

-- Ends a run that could not be launched. A run that has started meanwhile, or ended, is left as it is.
-- Raises PT404 run_not_found.
create function public.fail_launch_v1(run_id uuid, error jsonb) returns jsonb
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
  end if;
  return to_jsonb(run) - 'input';
end;
$$;

-- Gives a live run to a new runner: from here on the tokens of the old epoch are refused. Null when the run has ended.
-- Raises PT404 run_not_found.
create function public.next_epoch_v1(run_id uuid) returns integer
  language plpgsql security definer set search_path = ''
as $$
declare
  run public.agent_runs := private.lock_existing_run(next_epoch_v1.run_id);
begin
  update public.agent_runs r set epoch = r.epoch + 1
    where r.id = run.id and private.is_live(r.status)
    returning * into run;
  return run.epoch;
end;
$$;

-- The sandbox is gone, and why. The first reason stays.
create function public.close_sandbox_v1(sandbox_id text, reason text) returns void
  language sql security definer set search_path = ''
  begin atomic
    update public.sandbox_executions x set ended_at = now(), end_reason = close_sandbox_v1.reason
      where x.sandbox_id = close_sandbox_v1.sandbox_id and x.ended_at is null;
  end;

revoke all on function public.admit_run_v1, public.request_cancel_v1, public.record_sandbox_v1, public.fail_launch_v1,
  public.next_epoch_v1, public.close_sandbox_v1 from public, anon, authenticated, service_role;
grant execute on function public.admit_run_v1, public.request_cancel_v1 to authenticated;
grant execute on function public.record_sandbox_v1, public.fail_launch_v1, public.next_epoch_v1, public.close_sandbox_v1
  to service_role;
