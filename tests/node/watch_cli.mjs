// Prints the seq of each event of a session as it comes, one a line, and ends with the session's rest.
// Usage: SUPABASE_URL=… SUPABASE_KEY=… SUPABASE_TOKEN=… node watch_cli.mjs SESSION [AFTER]

import { createClient } from '@supabase/supabase-js'
import WebSocket from 'ws'

import { watch } from './watch.mjs'

const { SUPABASE_URL, SUPABASE_KEY, SUPABASE_TOKEN, RECONNECT_MS } = process.env
const [sessionId, after = '0'] = process.argv.slice(2)
const reconnectAfterMs = RECONNECT_MS ? () => Number(RECONNECT_MS) : undefined
const supabase = createClient(SUPABASE_URL, SUPABASE_KEY, {
  accessToken: async () => SUPABASE_TOKEN,
  realtime: { transport: WebSocket, ...(reconnectAfterMs && { reconnectAfterMs }) },
})
await supabase.realtime.setAuth() // a private channel must not be joined before

let complaint
try {
  for await (const event of watch(supabase, sessionId, { after: Number(after) })) console.log(event.seq)
} catch (error) {
  complaint = error.message
}
await supabase.removeAllChannels()
supabase.realtime.disconnect()
if (complaint) console.error(complaint)
process.exit(complaint ? 1 : 0) // timers of the library would keep the process for ten seconds more
