// The review deck. The browser owns the cursor and the log: the screen moves first, the server hears of it afterwards,
// and says by a receipt what it kept.

const memory = new WeakMap() // one deck for each mounted component
const RECEIPT = "forwardinf-receipt" // the event by which the receipt component speaks
const AHEAD = 40 // rows that are asked for before the cursor reaches them
const RESEND_MS = 3000
const KEYS = { k: "keep", r: "relabel", l: "relabel", d: "drop", u: "unsure", z: "undo", y: "redo", n: "comment", g: "mode" }

class Deck {
  constructor(root) {
    this.root = root
    this.items = new Map() // place in the queue → row
    this.cursor = 0
    this.mode = "cards"
    this.comment = ""
    this.card = new Card(root, this)
    this.grid = new Grid(root.querySelector(".grid"), this)
    this.receipt = null
    this.asked = new Set()
    this.listen()
  }

  find(name) {
    return this.root.querySelector(name)
  }

  name(code) {
    return this.data.names[code] ?? "no label"
  }

  large(position) {
    return `${this.data.thumbs}/large/${position}`
  }

  small(position, split = "train") {
    const image = element("img")
    image.loading = "lazy"
    image.decoding = "async"
    image.draggable = false
    image.alt = ""
    image.onload = () => image.classList.toggle("sharp", image.naturalWidth <= 96 && this.data.pixels <= 48)
    image.src = `${this.data.thumbs}/${split}/${position}`
    return image
  }

  update(data, send) {
    this.send = send
    const isNew = !this.data || this.data.version !== data.version
    const isOther = !this.journal || this.data.store !== data.store || this.data.reviewer !== data.reviewer
    this.data = data
    if (isOther) this.journal = new Journal(data.store, data.reviewer)
    if (isNew) {
      this.items.clear()
      this.asked.clear()
      this.grid.reset()
      this.card.strip.clear()
      this.cursor = data.cursor
      this.mode = data.mode
      this.journal.start(data.done, data.undone)
    }
    data.items.forEach((item, at) => this.items.has(data.start + at) || this.items.set(data.start + at, item))
    if (isOther && this.journal.adopt()) this.report()
    if (isOther) this.greet()
    this.render()
  }

  // A name this browser was used under before goes to the server, where no name was said on this visit.
  greet() {
    try {
      const known = localStorage.getItem("forwardinf-reviewer")
      if (this.data.named) localStorage.setItem("forwardinf-reviewer", this.data.reviewer)
      else if (known && known !== this.data.reviewer) setTimeout(() => this.send("name", known), 0)
    } catch {
      // storage is closed: the name is asked for again
    }
  }

  report() {
    this.send("log", this.journal.message())
    clearTimeout(this.again)
    this.again = setTimeout(() => this.journal.pending.length && this.report(), RESEND_MS)
  }

  heard(receipt) {
    if (!receipt || receipt.tab !== this.journal?.tab) {
      this.receipt = { ...receipt, turn: 0 }
      return this.renderBar()
    }
    this.receipt = receipt
    if (!receipt.fault) this.journal.confirmed(receipt.turn)
    if (!this.journal.pending.length) clearTimeout(this.again)
    return this.renderBar()
  }

  need(index) {
    const block = Math.floor(index / this.data.block)
    if (index >= this.data.total || this.asked.has(block)) return
    this.asked.add(block)
    this.send("at", index)
  }

  needAhead() {
    for (let at = this.cursor; at < Math.min(this.cursor + AHEAD, this.data.total); at += 1) {
      if (!this.items.has(at)) return this.need(at)
    }
    return undefined
  }

  go(index) {
    this.cursor = Math.max(0, Math.min(index, this.data.total))
    this.render()
  }

  open(index) {
    this.mode = "cards"
    this.go(index)
  }

  // After a decision the next row; where the queue holds what is open, the next row that still is.
  advance() {
    let next = this.cursor + 1
    while (this.data.skip && this.items.has(next) && this.journal.verdictOf(this.items.get(next))) next += 1
    this.go(next)
  }

  decide(action, label = null) {
    const indices = this.mode === "grid" ? this.grid.picked() : [this.cursor]
    const items = indices.map((index) => this.items.get(index)).filter(Boolean)
    if (!items.length) return
    const verdicts = items.map((item) => this.verdict(item, action, label))
    if (verdicts.includes(null)) return this.flash("This row has no suggestion: choose a class by its number.")
    this.journal.decide(items, verdicts, this.comment, this.data.settles)
    this.setComment("")
    if (this.mode === "grid") {
      this.grid.chosen.clear()
      if (items.length > 1) this.flash(`${items.length} rows decided. Z takes it back.`)
      else this.grid.focus = Math.min(this.grid.focus + 1, Math.max(0, this.data.total - 1))
      this.render()
    } else this.advance()
    return this.report()
  }

  verdict(item, action, label) {
    if (action !== "relabel") return [action, null]
    const wanted = label ?? item.s
    if (wanted === item.l) return label === null ? null : ["keep", null]
    return ["relabel", wanted]
  }

  choose(code) {
    this.decide("relabel", code)
  }

  takeBack(step) {
    if (!step) return
    const here = step.rows.length === 1 ? this.placeOf(step.rows[0][0]) : -1
    if (here >= 0 && this.mode === "cards") this.cursor = here
    else if (step.rows.length !== 1 || here < 0) {
      const rows = step.rows.length || "many"
      this.flash(step.rows.length === 1 ? `Row ${step.rows[0][0]}, outside this filter.` : `${rows} rows.`)
    }
    this.render()
    this.report()
    if (!step.rows.length) this.send("again", this.journal.sent)
  }

  placeOf(row) {
    for (const [index, item] of this.items) if (item.id === row) return index
    return -1
  }

  act(action) {
    const actions = {
      undo: () => this.takeBack(this.journal.undo()),
      redo: () => this.takeBack(this.journal.redo()),
      comment: () => this.find(".comment").focus(),
      mode: () => this.setMode(this.mode === "grid" ? "cards" : "grid"),
      back: () => this.go(this.cursor - 1),
      forth: () => this.go(Math.min(this.cursor + 1, this.data.total)),
      left: () => this.send("again", Date.now()),
    }
    ;(actions[action] ?? (() => this.decide(action)))()
  }

  setMode(mode) {
    this.mode = mode
    this.grid.focus = Math.min(this.cursor, Math.max(0, this.data.total - 1))
    this.render()
  }

  setComment(text) {
    this.comment = text
    this.find(".comment").value = text
  }

  listen() {
    this.onKey = (event) => this.key(event)
    this.onReceipt = (event) => this.heard(event.detail)
    window.addEventListener("keydown", this.onKey, true) // before Streamlit's own keys (R runs again, C clears)
    window.addEventListener(RECEIPT, this.onReceipt)
    this.root.querySelectorAll("[data-act]").forEach((button) => {
      button.onclick = () => {
        this.act(button.dataset.act)
        button.blur()
      }
    })
    const field = this.find(".comment")
    field.oninput = () => (this.comment = field.value)
    this.find(".cards").ontouchstart = (event) => (this.touched = event.touches[0].clientX)
    this.find(".cards").ontouchend = (event) => {
      const moved = event.changedTouches[0].clientX - this.touched
      if (Math.abs(moved) > 60) this.act(moved > 0 ? "back" : "forth")
    }
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || document.querySelector("[role=dialog]")) return
    const typing = event.composedPath().some((at) => at.matches?.("input, textarea, select, [contenteditable=true]"))
    if (typing) {
      const field = this.find(".comment")
      if (["Enter", "Escape"].includes(event.key) && event.composedPath()[0] === field) field.blur()
      return
    }
    if (this.take(event)) {
      event.preventDefault()
      event.stopPropagation()
    }
  }

  take(event) {
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key
    if (key in KEYS) {
      this.act(KEYS[key])
      return true
    }
    if (this.mode === "grid") return this.hasKeyboard() && this.grid.key(event)
    const item = this.items.get(this.cursor)
    if (/^[1-9]$/.test(key)) {
      const choice = item?.c[Number(key) - 1]
      if (choice) this.choose(choice[0])
      return true
    }
    if ((key === "ArrowLeft" || key === "ArrowRight") && this.hasKeyboard()) {
      this.act(key === "ArrowLeft" ? "back" : "forth")
      return true
    }
    return false
  }

  // Whether no other part of the page holds the keyboard.
  hasKeyboard() {
    return document.activeElement === document.body || this.root.contains(this.root.getRootNode().activeElement)
  }

  flash(words) {
    const note = this.find(".flash")
    note.textContent = words
    clearTimeout(this.fading)
    this.fading = setTimeout(() => (note.textContent = ""), 4000)
  }

  render() {
    const isGrid = this.mode === "grid"
    const item = this.items.get(this.cursor)
    const isOver = this.cursor >= this.data.total && !isGrid
    this.root.dataset.state = isOver ? "over" : isGrid ? "grid" : item ? "card" : "loading"
    this.root.classList.toggle("texts", this.data.isText)
    this.root.dataset.cursor = String(this.cursor)
    if (isGrid) this.grid.draw()
    else if (item) this.card.draw(item, this.cursor)
    if (isOver) this.renderEnd()
    if (item && !isGrid) this.nameInLink(item)
    this.needAhead()
    this.renderBar()
    this.renderActions(item)
  }

  // The address names the row on screen, so that a reload or a copied link comes back to it.
  nameInLink(item) {
    clearTimeout(this.naming)
    this.naming = setTimeout(() => {
      const link = new URL(location.href)
      if (link.searchParams.get("row") === item.id) return
      link.searchParams.set("row", item.id)
      history.replaceState(history.state, "", link)
    }, 250)
  }

  renderEnd() {
    const left = this.leftOut()
    const words = this.data.total ? `You have been through all ${this.data.total.toLocaleString("en")} rows here.` : ""
    this.find(".ending b").textContent = left ? `${left} rows here are still open.` : words || "Nothing is left in this filter."
    this.find(".ending span").textContent = "Z takes back the last decision; ← goes back."
  }

  leftOut() {
    let open = 0
    for (const item of this.items.values()) if (!this.journal.verdictOf(item)) open += 1
    return this.data.skip ? open : 0
  }

  renderActions(item) {
    const isGrid = this.mode === "grid"
    const several = isGrid && this.grid.chosen.size > 1 ? this.grid.chosen.size : 0
    const target = item && !isGrid && item.s !== item.l ? ` to ‘${this.name(item.s)}’` : ""
    this.find("[data-act=relabel] .words").textContent = `Relabel${target}`
    this.find("[data-act=relabel]").disabled = !isGrid && (!item || item.s === item.l)
    for (const action of ["keep", "drop", "unsure"]) this.find(`[data-act=${action}]`).disabled = !isGrid && !item
    this.find("[data-act=undo]").disabled = !this.journal.done.length
    this.find("[data-act=redo]").disabled = !this.journal.undone.length
    this.find(".picked").textContent = several ? `${several} rows chosen` : isGrid ? "Click chooses, A all" : ""
  }

  renderBar() {
    if (!this.data) return
    const place = Math.min(this.cursor + 1, this.data.total)
    const total = this.data.total.toLocaleString("en")
    this.find(".where").textContent = this.mode === "grid" ? `${total} rows` : `${place.toLocaleString("en")} of ${total}`
    const found = this.receipt
    const facts = []
    if (found?.suspects) {
      facts.push(`${found.decided.toLocaleString("en")} of ${found.suspects.toLocaleString("en")} suspects decided`)
      facts.push(`about ${Math.round(found.remaining).toLocaleString("en")} wrong labels left`)
      this.find(".meter i").style.width = `${(100 * found.decided) / found.suspects}%`
    }
    const rate = this.journal?.rate()
    if (rate) facts.push(`${Math.round(rate)} a minute`)
    this.find(".facts").textContent = facts.join(" · ")
    this.renderSaved(found)
    this.root.querySelectorAll("[data-mode]").forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.mode === this.mode))
      button.onclick = () => this.setMode(button.dataset.mode)
    })
  }

  renderSaved(found) {
    const waiting = this.journal?.pending.length ?? 0
    const saved = this.find(".saved")
    saved.dataset.state = found?.fault ? "fault" : waiting ? "waiting" : "saved"
    saved.title = found?.fault ?? "Every decision is written down as soon as it is made."
    saved.textContent = found?.fault ? `Not saved: ${waiting} kept here` : waiting ? `Saving ${waiting}` : "Saved"
    if (found?.refused?.length) this.flash(found.refused[0])
  }

  leave() {
    window.removeEventListener("keydown", this.onKey, true)
    window.removeEventListener(RECEIPT, this.onReceipt)
    clearTimeout(this.again)
    clearTimeout(this.naming)
    this.grid.seen.disconnect()
  }
}

export default function ({ data, parentElement, setStateValue }) {
  let deck = memory.get(parentElement)
  if (!deck) {
    deck = new Deck(parentElement.querySelector(".deck"))
    memory.set(parentElement, deck)
  }
  deck.update(data, setStateValue)
  if (window[RECEIPT]) deck.heard(window[RECEIPT])
  return () => {
    deck.leave()
    memory.delete(parentElement)
  }
}
