// What was decided here: an append-only log, what the server has of it, and what undo and redo would take back.
// Entries stay in this browser until the server says that it kept them, so that a reload or a kill loses nothing.

const PREFIX = "forwardinf-review"

class Journal {
  constructor(place, reviewer) {
    this.shelf = `${PREFIX}|${place}|${reviewer}|`
    this.tab = newId().slice(0, 12)
    this.sent = 0 // number of the last message
    this.pending = [] // {entry, since: number of the message it first went with}
    this.adopted = [] // keys of logs that other visits left behind
    this.verdicts = new Map() // row → [action, label] or null, decided or taken back here
    this.done = []
    this.undone = []
    this.times = [] // of decisions, for the rate
  }

  // Begin with what the server knows, then lay over it what the server has not confirmed yet.
  start(done, undone) {
    const kept = this.pending
    this.done = done.map((step) => ({ ...step }))
    this.undone = undone.map((step) => ({ ...step }))
    this.verdicts.clear()
    for (const { entry } of kept) this.replay(entry)
  }

  replay(entry) {
    if (entry.a === "undo") {
      const at = this.done.findIndex((step) => step.step === entry.u)
      if (at >= 0) this.undone.push({ ...this.done.splice(at, 1)[0], undo: entry.e })
    } else if (entry.a === "redo") {
      const at = this.undone.findIndex((step) => step.undo === entry.u)
      if (at >= 0) this.done.push(this.undone.splice(at, 1)[0])
    } else if (!this.done.some((step) => step.step === entry.s && step.rows.some(([row]) => row === entry.r))) {
      const now = [entry.a, entry.l]
      const change = [entry.r, now, this.verdicts.get(entry.r) ?? null]
      const same = this.done.find((step) => step.step === entry.s)
      if (same) same.rows.push(change)
      else this.done.push({ step: entry.s, rows: [change] })
      this.verdicts.set(entry.r, now)
      this.undone = []
    }
  }

  // Take up what earlier visits of this reviewer left unconfirmed; entries have ids, so that none counts twice.
  adopt() {
    for (const key of keysOf(this.shelf)) {
      if (key === this.shelf + this.tab || this.adopted.includes(key)) continue
      const left = read(key)
      if (!left.length) continue
      this.adopted.push(key)
      for (const entry of left) {
        this.pending.push({ entry, since: this.sent + 1 })
        this.replay(entry)
      }
    }
    return this.adopted.length > 0
  }

  verdictOf(item) {
    return this.verdicts.has(item.id) ? this.verdicts.get(item.id) : item.v
  }

  decide(items, verdicts, comment, settles) {
    const step = newId()
    const rows = items.map((item, index) => [item.id, verdicts[index], this.verdictOf(item)])
    rows.forEach(([row, now], index) => {
      this.verdicts.set(row, now)
      const e = rows.length === 1 ? step : `${step}.${index}`
      this.add({ e, s: step, a: now[0], r: row, l: now[1], c: comment, ...(settles ? { z: true } : {}) })
    })
    this.done.push({ step, rows })
    this.undone = []
    this.times.push(...rows.map(() => Date.now()))
  }

  undo() {
    const step = this.done.pop()
    if (!step) return null
    const e = newId()
    this.add({ e, s: e, a: "undo", r: step.rows.length === 1 ? step.rows[0][0] : "", u: step.step })
    for (const [row, , before] of step.rows) this.verdicts.set(row, before)
    this.undone.push({ ...step, undo: e })
    return step
  }

  redo() {
    const step = this.undone.pop()
    if (!step) return null
    const e = newId()
    this.add({ e, s: e, a: "redo", r: step.rows.length === 1 ? step.rows[0][0] : "", u: step.undo })
    for (const [row, now] of step.rows) this.verdicts.set(row, now)
    this.done.push(step)
    return step
  }

  add(entry) {
    this.pending.push({ entry, since: this.sent + 1 })
    this.keep()
  }

  keep() {
    const own = this.pending.map(({ entry }) => entry)
    write(this.shelf + this.tab, own)
  }

  message() {
    this.sent += 1
    return { tab: this.tab, turn: this.sent, log: this.pending.map(({ entry }) => entry) }
  }

  // The server kept everything that went with this message or one before it.
  confirmed(turn) {
    this.pending = this.pending.filter(({ since }) => since > turn)
    this.adopted.forEach((key) => forget(key))
    this.adopted = []
    this.keep()
  }

  // Decisions a minute over the last stretch of work; null until there are enough to tell.
  rate() {
    const recent = this.times.slice(-30)
    if (recent.length < 5) return null
    const minutes = (recent[recent.length - 1] - recent[0]) / 60000
    return minutes > 0 ? (recent.length - 1) / minutes : null
  }
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12))
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")
}

function keysOf(shelf) {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(shelf))
  } catch {
    return [] // storage is closed in this browser: the log then lives as long as the page
  }
}

function read(key) {
  try {
    const found = JSON.parse(localStorage.getItem(key) ?? "[]")
    return Array.isArray(found) ? found : []
  } catch {
    return []
  }
}

function write(key, entries) {
  try {
    if (entries.length) localStorage.setItem(key, JSON.stringify(entries))
    else localStorage.removeItem(key)
  } catch {
    // full or closed: the entries are still in memory and on their way
  }
}

function forget(key) {
  try {
    localStorage.removeItem(key)
  } catch {
    // nothing to forget where nothing could be kept
  }
}
