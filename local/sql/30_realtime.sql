-- The schema `realtime` of a hosted Supabase project: the messages table whose policies authorise private channels, and
-- the functions that broadcast from SQL. Sources: supabase/realtime, lib/realtime/tenants/repo/migrations.
-- Unlike on hosted Supabase the table is not partitioned by day: the server prunes it by age instead.

create table if not exists realtime.messages (
  topic text not null,
  extension text not null,
  payload jsonb,
  event text,
  private boolean default false,
  updated_at timestamp not null default now(),
  inserted_at timestamp not null default now(),
  id uuid not null default gen_random_uuid(),
  primary key (id, inserted_at)
);
create index if not exists messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
  where extension = 'broadcast' and private;

-- Only an owner may make policies. `postgres`, which runs the migrations, is a member of the owner; on hosted Supabase the
-- extension supautils (`supautils.policy_grants`) lets it make policies on this table, and it may hand on SELECT and INSERT.
alter table realtime.messages owner to supabase_realtime_admin;
alter table realtime.messages enable row level security;
grant select, insert, update on realtime.messages to anon, authenticated, service_role;
grant all on realtime.messages to postgres;

create or replace function realtime.topic() returns text language sql stable as $$
  select nullif(current_setting('realtime.topic', true), '')::text
$$;

-- Runs as its caller, as on hosted Supabase, and never fails the caller's statement: what cannot be sent is a warning.
create or replace function realtime.send(payload jsonb, event text, topic text, private boolean default true)
returns void language plpgsql as $$
declare
  message_id uuid := gen_random_uuid();
begin
  perform set_config('realtime.topic', topic, true);
  insert into realtime.messages (id, payload, event, topic, private, extension)
  values (
    message_id,
    case when payload ? 'id' then payload else jsonb_set(payload, '{id}', to_jsonb(message_id)) end,
    event, topic, private, 'broadcast'
  );
exception
  when others then
    raise warning 'ErrorSendingBroadcastMessage: %', sqlerrm;
end
$$;

create or replace function realtime.broadcast_changes(
  topic_name text, event_name text, operation text, table_name text, table_schema text,
  new record, old record, level text default 'ROW'
) returns void language plpgsql as $$
begin
  if level = 'STATEMENT' then
    raise exception 'function can only be triggered for each row, not for each statement';
  end if;
  if operation not in ('INSERT', 'UPDATE', 'DELETE') then
    raise exception 'Unexpected operation type: %', operation;
  end if;
  perform realtime.send(
    jsonb_build_object(
      'schema', table_schema, 'table', table_name, 'operation', operation, 'record', new, 'old_record', old
    ),
    event_name, topic_name
  );
end
$$;

alter function realtime.topic() owner to supabase_realtime_admin;
alter function realtime.send(jsonb, text, text, boolean) owner to supabase_realtime_admin;
alter function realtime.broadcast_changes(text, text, text, text, text, record, record, text)
  owner to supabase_realtime_admin;
revoke execute on all functions in schema realtime from public;
grant execute on all functions in schema realtime to postgres, anon, authenticated, service_role;

-- What the server decodes to broadcast from the database; the name is hosted Supabase's.
do $$
begin
  if not exists (select from pg_publication where pubname = 'supabase_realtime_messages_publication') then
    create publication supabase_realtime_messages_publication for table realtime.messages with (publish = 'insert');
  end if;
end
$$;

-- Asks the policies of realtime.messages, as a caller, what they allow on a topic. Ours, not hosted Supabase's: it saves
-- round trips. It leaves rows and settings behind, so it must run in a transaction that is rolled back.
create schema if not exists supabase_local;
create or replace function supabase_local.realtime_policies(
  topic_name text, role_name text, claims text, headers text,
  out broadcast_read boolean, out presence_read boolean, out broadcast_write boolean, out presence_write boolean
) language plpgsql as $$
declare
  broadcast_id uuid;
  presence_id uuid;
begin
  if not pg_has_role('authenticator', role_name, 'member') then
    raise insufficient_privilege using message = format('role "%s" is not granted to authenticator', role_name);
  end if;
  insert into realtime.messages (topic, extension) values (topic_name, 'broadcast') returning id into broadcast_id;
  insert into realtime.messages (topic, extension) values (topic_name, 'presence') returning id into presence_id;
  perform set_config('realtime.topic', topic_name, true), set_config('request.jwt.claims', claims, true),
    set_config('request.headers', headers, true), set_config('role', role_name, true);
  begin
    select count(*) filter (where id = broadcast_id) > 0, count(*) filter (where id = presence_id) > 0
      into broadcast_read, presence_read
      from realtime.messages where id in (broadcast_id, presence_id);
  exception
    when insufficient_privilege then
      broadcast_read := false;
      presence_read := false;
  end;
  begin
    insert into realtime.messages (topic, extension) values (topic_name, 'broadcast');
    broadcast_write := true;
  exception
    when insufficient_privilege then broadcast_write := false;
  end;
  begin
    insert into realtime.messages (topic, extension) values (topic_name, 'presence');
    presence_write := true;
  exception
    when insufficient_privilege then presence_write := false;
  end;
end
$$;
revoke execute on function supabase_local.realtime_policies(text, text, text, text) from public;
