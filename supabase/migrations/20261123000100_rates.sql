-- How often one owner may: a token bucket for each kind of request that changes something. It holds a minute's requests and
-- is refilled all the time, by the database's clock. Requests that are refused, or answered to their key, cost nothing.

create table private.rate_buckets (
  owner uuid not null references auth.users (id) on delete cascade,
  class text not null check (class in ('submit', 'message', 'other')),
  -- What was left after the last request, at that time. It never goes below nothing: that request is rolled back.
  tokens double precision not null check (tokens >= 0),
  refilled_at timestamptz not null default clock_timestamp(),
  primary key (owner, class)
) with (fillfactor = 50); -- changed by every request: room for HOT updates

-- Requests a minute.
create function private.rate_of(of_owner uuid, of_class text) returns integer
  language sql stable set search_path = ''
  return (
    select case of_class when 'submit' then l.submits_per_minute when 'message' then l.messages_per_minute else l.others_per_minute end
    from private.limits_of(of_owner) l
  );

-- What the bucket holds now. Never more than a minute's requests, also where the limit was lowered since.
create function private.refilled(bucket private.rate_buckets, per_minute integer) returns double precision
  language sql volatile set search_path = ''
  return least(
    per_minute,
    bucket.tokens + greatest(0, extract(epoch from clock_timestamp() - bucket.refilled_at)) * per_minute / 60.0
  );

-- Takes one request out of the owner's bucket. Raises PT429 rate_limited: the detail is in how many seconds the next one
-- may come, the hint how many a minute may.
create function private.spend_request(of_owner uuid, of_class text) returns void
  language plpgsql set search_path = ''
as $$
declare
  per_minute integer := private.rate_of(of_owner, of_class);
  bucket private.rate_buckets;
  held double precision;
begin
  insert into private.rate_buckets (owner, class, tokens) values (of_owner, of_class, per_minute)
    on conflict on constraint rate_buckets_pkey do nothing;
  select * into strict bucket from private.rate_buckets b where b.owner = of_owner and b.class = of_class for no key update;
  held := private.refilled(bucket, per_minute);
  if held < 1 then
    raise exception using
      errcode = 'PT429', message = 'rate_limited',
      detail = ceil((1 - held) * 60 / per_minute)::text, hint = per_minute::text;
  end if;
  update private.rate_buckets b
    set tokens = held - 1, refilled_at = greatest(b.refilled_at, clock_timestamp())
    where b.owner = of_owner and b.class = of_class;
end;
$$;

-- Claims a key for a run or for a subject: null when the claim is new, which is one request of the owner's; else what the same
-- request claimed before, which costs nothing. Without a key every claim is new. Concurrent claims of one key wait for the
-- first to commit. Raises PT409 idempotency_key_reused, PT429 rate_limited.
create function private.claim_key(of_owner uuid, of_key text, of_hash text, of_run uuid, of_subject text, of_class text)
  returns public.idempotency_keys
  language plpgsql set search_path = ''
as $$
declare
  held public.idempotency_keys;
  is_new boolean := of_key is null;
begin
  if not is_new then
    insert into public.idempotency_keys (owner, key, request_hash, run_id, subject)
      values (of_owner, of_key, of_hash, of_run, of_subject)
      on conflict (owner, key) do nothing;
    is_new := found;
  end if;
  if is_new then
    perform private.spend_request(of_owner, of_class);
    return null;
  end if;
  select * into strict held from public.idempotency_keys k where k.owner = of_owner and k.key = of_key;
  if held.request_hash <> of_hash or (held.run_id is null) <> (of_run is null) then
    raise exception using errcode = 'PT409', message = 'idempotency_key_reused', detail = 'the key was used for another request';
  end if;
  return held;
end;
$$;

-- As before, counted as a request of the class. Raises as claim_key.
drop function private.claim(uuid, text, text, uuid);
create function private.claim(
  of_owner uuid, of_key text, of_hash text, inout of_run uuid, of_class text default 'other', out is_new boolean
)
  language plpgsql set search_path = ''
as $$
declare
  held public.idempotency_keys := private.claim_key(of_owner, of_key, of_hash, of_run, null, of_class);
begin
  is_new := held.key is null;
  of_run := coalesce(held.run_id, of_run);
end;
$$;

-- The same for a subject, whose answer is as before.
drop function private.claim_subject(uuid, text, text, text);
create function private.claim_subject(
  of_owner uuid, of_key text, of_hash text, inout subject text, of_class text default 'other',
  out is_new boolean, out answer jsonb
)
  language plpgsql set search_path = ''
as $$
declare
  held public.idempotency_keys := private.claim_key(of_owner, of_key, of_hash, null, subject, of_class);
begin
  is_new := held.key is null;
  subject := coalesce(held.subject, subject);
  answer := held.answer;
end;
$$;
