// Watching a session from JavaScript: each event of its log exactly once, in order, as soon as it can be had.
// The rules are those of sandstream/watch.py. Realtime is a doorbell: a broadcast that continues the log is handed on
// as it is; anything else makes the table be read, and so does every (re-)subscription, and now and then a timer.

const COLUMNS = 'seq,session_id,run_id,n,type,data,produced_at,created_at'
const PAGE = 500
const EARLY_KEPT = 256

/** Whether the session came to rest with this event. */
export const isFinal = (event) =>
  event.type === 'session.status_terminated' ||
  (event.type === 'session.status_idle' && event.data.stop_reason?.type !== 'requires_action')

/** A place in one log: all events up to `last` were handed on; the log is known to hold events up to `known`. */
export class Cursor {
  early = []

  constructor(after) {
    this.last = this.known = after
  }

  /** The events that come next, now that these are here. */
  take(events) {
    const taken = []
    for (const event of [...events].sort((a, b) => a.seq - b.seq)) {
      this.known = Math.max(this.known, event.seq)
      if (event.seq === this.last + 1) taken.push(event), (this.last = event.seq)
    }
    return taken.length ? [...taken, ...this.#resume()] : taken
  }

  /** The same for a broadcast; one that came too early waits for its turn. */
  ring({ first_seq, last_seq, events }) {
    this.known = Math.max(this.known, last_seq)
    if (first_seq <= this.last + 1) return this.take(events ?? [])
    if (events && this.early.length < EARLY_KEPT) this.early.push({ first_seq, last_seq, events })
    return []
  }

  #resume() {
    const next = this.early.find((bell) => bell.first_seq <= this.last + 1)
    if (!next) return []
    this.early = this.early.filter((bell) => bell !== next)
    return [...this.take(next.events), ...this.#resume()]
  }
}

/**
 * The session's events past `after`, until the session is at rest, or for ever with `follow`. Times in milliseconds.
 * `supabase` is a client with a signed-in user, or with an `accessToken` callback; it refreshes the token itself.
 * Throws when Supabase refuses or the session is not the caller's; waits for a Supabase that is away.
 */
export async function* watch(supabase, sessionId, options = {}) {
  const { after = 0, follow = false, pollFirst = 2000, pollCap = 15000, again = [0, 1000, 3000], retry = 1000 } = options
  const cursor = new Cursor(after)
  const doorbell = new Doorbell(supabase, sessionId, again, retry)
  let ended // by the last status event; undefined before there was one
  let poll = pollFirst
  doorbell.wake(0)
  try {
    while (true) {
      const rung = doorbell.take()
      let events = rung.bells.flatMap((bell) => cursor.ring(bell))
      let state
      if (rung.read || cursor.known > cursor.last) {
        const page = await readPage(supabase, sessionId, cursor.last)
        if (page === undefined) doorbell.wake(retry)
        else events.push(...cursor.take(page))
        if (page?.length) doorbell.wake(0)
        else if (page) state = await readState(supabase, sessionId, ended)
      }
      for (const event of events) {
        if (/^(run\.created$|session\.status_)/.test(event.type)) ended = isFinal(event)
        yield event
      }
      if (events.length && ended) doorbell.wake(0) // to see whether the session is at rest
      if (state && isAtRest(state, cursor, ended) && !follow) return
      poll = events.length || !doorbell.joined ? pollFirst : Math.min(poll * 2, pollCap)
      await doorbell.rings(poll)
    }
  } finally {
    await doorbell.close()
  }
}

function isAtRest(state, cursor, ended) {
  cursor.known = Math.max(cursor.known, state.last_seq)
  if (cursor.known > cursor.last) return false
  return state.status === 'terminated' || (state.status === 'idle' && (ended ?? state.ended))
}

/** The first events past `last`; undefined while Supabase is away. */
async function readPage(supabase, sessionId, last) {
  const events = supabase.from('agent_events').select(COLUMNS).eq('session_id', sessionId)
  return rows(await events.gt('seq', last).order('seq').limit(PAGE))
}

/** The session's row and, when no status event has been seen, what its last idleness was. */
async function readState(supabase, sessionId, ended) {
  const found = rows(await supabase.from('agent_sessions').select('status,last_seq').eq('id', sessionId))
  if (found?.length === 0) throw new Error(`there is no session ${sessionId}`)
  if (!found || ended !== undefined) return found?.[0]
  const idle = supabase.from('agent_events').select(COLUMNS).eq('session_id', sessionId).eq('type', 'session.status_idle')
  const lasts = rows(await idle.order('seq', { ascending: false }).limit(1))
  return lasts && { ...found[0], ended: lasts.every(isFinal) }
}

/** The rows of an answer; undefined when asking again later may help. Throws what Supabase refuses. */
function rows({ data, error, status }) {
  if (!error) return data
  if (status === 0 || status === 408 || status === 429 || status >= 500) return undefined
  throw new Error(`Supabase answered ${status}: ${error.message}`)
}

/** The subscription to a session's broadcasts. supabase-js reconnects by itself, but not a channel that was closed. */
class Doorbell {
  bells = []
  read = false
  joined = false
  timers = new Set()
  #ring = () => {}

  constructor(supabase, sessionId, again, retry) {
    Object.assign(this, { supabase, topic: `session:${sessionId}`, again, retry })
    this.#subscribe()
  }

  /** What has come since the last time. */
  take() {
    const { bells, read } = this
    Object.assign(this, { bells: [], read: false })
    return { bells, read }
  }

  /** Have the table read in so many milliseconds. */
  wake(ms) {
    if (ms === 0) return this.#read()
    this.#later(ms, () => this.#read())
  }

  /** Wait for a broadcast or a reason to read; after so many milliseconds there is one. */
  async rings(ms) {
    if (this.bells.length || this.read) return
    const timer = setTimeout(() => this.#read(), ms)
    await new Promise((resolve) => (this.#ring = resolve))
    clearTimeout(timer)
  }

  async close() {
    this.closed = true
    this.timers.forEach(clearTimeout)
    await this.supabase.removeChannel(this.channel)
  }

  #read() {
    this.read = true
    this.#ring()
  }

  #later(ms, what) {
    const timer = setTimeout(() => (this.timers.delete(timer), what()), ms)
    this.timers.add(timer)
  }

  #subscribe() {
    this.channel = this.supabase.channel(this.topic, { config: { private: true } })
    this.channel.on('broadcast', { event: 'events' }, ({ payload }) => {
      this.bells.push(payload)
      this.#ring()
    })
    this.channel.subscribe((status) => {
      this.joined = status === 'SUBSCRIBED'
      if (this.joined) this.again.forEach((ms) => this.wake(ms)) // SUBSCRIBED may be seconds early
      if (status === 'CLOSED' && !this.closed) this.#later(this.retry, () => this.#subscribe())
    })
  }
}
