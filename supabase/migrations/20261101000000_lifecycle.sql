-- The words a status may be, and the moves between them. Everything that writes a status is checked against `run_moves`;
-- docs/lifecycle.md draws the same table.

-- Functions that other functions call. PostgREST does not expose it, and nobody is granted anything in it.
create schema private;
revoke all on schema private from public;

create table public.run_moves (
  from_status text not null,
  to_status text not null,
  -- Who makes this move: the runner, the endpoint that launches it, or the sweep.
  made_by text[] not null check (made_by <@ array['runner', 'launch', 'sweep'] and cardinality(made_by) > 0),
  primary key (from_status, to_status)
);

insert into public.run_moves (from_status, to_status, made_by) values
  ('launching', 'running', array['runner']),
  ('launching', 'succeeded', array['runner']),
  ('launching', 'failed', array['runner', 'launch']),
  ('launching', 'cancelled', array['runner', 'sweep']),
  ('launching', 'timed_out', array['runner', 'sweep']),
  ('launching', 'lost', array['sweep']),
  ('running', 'succeeded', array['runner']),
  ('running', 'failed', array['runner']),
  ('running', 'cancelled', array['runner', 'sweep']),
  ('running', 'timed_out', array['runner', 'sweep']),
  ('running', 'lost', array['sweep']);

alter table public.run_moves enable row level security;
alter table public.run_moves force row level security;

create policy "anyone signed in may read the lifecycle" on public.run_moves
  for select to authenticated using (true);

revoke all on public.run_moves from public, anon, authenticated, service_role;
grant select on public.run_moves to authenticated, service_role;

create function private.is_live(status text) returns boolean
  language sql immutable parallel safe
  return status in ('launching', 'running');

-- Whether every reader can read it: jsonb keeps 1e5000 as a number of 5,001 digits, which many a JSON parser refuses,
-- and then the whole page with it.
create function private.is_readable(content jsonb) returns boolean
  language sql immutable parallel safe
  return content is null
    or not jsonb_path_exists(content, 'strict $.** ? (@.type() == "number" && (@ > 1e300 || @ < -1e300))');

create function private.refuse_illegal_move() returns trigger
  language plpgsql set search_path = ''
as $$
begin
  if not exists (
    select from public.run_moves m where m.from_status = old.status and m.to_status = new.status
  ) then
    raise exception using
      errcode = 'PT409', message = 'illegal_move',
      detail = format('a run that is %s cannot become %s', old.status, new.status);
  end if;
  return new;
end;
$$;
