// supabase-js, unmodified, driven line by line: a JSON command on stdin, a JSON answer or event on stdout.
// Commands: {do: "open" | "auth" | "join" | "send" | "http" | "track" | "leave" | "end", ...}
import { createInterface } from 'node:readline'
import { createClient } from '@supabase/supabase-js'
import ws from 'ws'

const say = (message) => process.stdout.write(JSON.stringify(message) + '\n')
// Bytes are shown as such, JSON has no word for them.
const plain = (payload) => (payload instanceof ArrayBuffer ? { bytes: [...new Uint8Array(payload)] } : payload)
const channels = new Map()
let client
let token = null

const commands = {
  open({ url, key, vsn }) {
    client = createClient(url, key, { accessToken: async () => token, realtime: { transport: ws, ...(vsn ? { vsn } : {}) } })
  },
  async auth(command) {
    token = command.token
    await client.realtime.setAuth()
  },
  join({ topic, config, changes }) {
    const channel = client.channel(topic, { config })
    channels.set(topic, channel)
    const heard = (kind) => (message) => say({ topic, kind, message })
    channel.on('broadcast', { event: '*' }, ({ payload, ...rest }) =>
      say({ topic, kind: 'broadcast', message: { ...rest, payload: plain(payload) } })
    )
    channel.on('system', {}, heard('system'))
    if (config.presence) {
      channel.on('presence', { event: 'sync' }, () => say({ topic, kind: 'presence', message: channel.presenceState() }))
    }
    for (const filter of changes ?? []) channel.on('postgres_changes', filter, heard('change'))
    channel.subscribe((state, error) => say({ topic, kind: 'state', message: { state, error: error?.message ?? null } }))
  },
  async send({ topic, event, payload, bytes }) {
    const body = bytes ? new Uint8Array(bytes).buffer : payload
    return channels.get(topic).send({ type: 'broadcast', event, payload: body })
  },
  async http({ topic, event, payload }) {
    return channels.get(topic).httpSend(event, payload).catch((error) => ({ error: error.message }))
  },
  async track({ topic, payload }) {
    return channels.get(topic).track(payload)
  },
  async leave({ topic }) {
    return client.removeChannel(channels.get(topic))
  },
  async end() {
    await client.removeAllChannels()
    process.exit(0)
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  const result = await commands[command.do](command)
  say({ kind: 'done', message: result ?? null })
}
