// Many rows at a glance: choose some, then one key or button decides them all as one step.

class Grid {
  constructor(root, deck) {
    this.root = root
    this.deck = deck
    this.chosen = new Set() // indices
    this.focus = 0
    this.anchor = 0
    this.tiles = new Map() // index → tile
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) this.deck.need(Number(entry.target.dataset.next))
    })
  }

  reset() {
    this.chosen.clear()
    this.tiles.clear()
    this.focus = 0
    this.root.replaceChildren()
  }

  indices() {
    return [...this.deck.items.keys()].sort((one, other) => one - other)
  }

  draw() {
    const indices = this.indices()
    const tiles = indices.map((index) => this.tile(index))
    const more = indices.length < this.deck.data.total
    const end = element("div", "more", more ? "Loading more rows …" : "")
    end.dataset.next = String(indices.length ? indices[indices.length - 1] + 1 : 0)
    this.seen.disconnect()
    const kept = [...this.root.children].slice(0, -1)
    if (kept.length !== tiles.length || kept.some((tile, at) => tile !== tiles[at])) {
      this.root.replaceChildren(...tiles, end)
    } else this.root.lastChild.replaceWith(end)
    if (more) this.seen.observe(end)
  }

  tile(index) {
    const item = this.deck.items.get(index)
    let tile = this.tiles.get(index)
    if (!tile || tile.dataset.row !== item.id) {
      tile = this.made(index, item)
      this.tiles.set(index, tile)
    }
    const verdict = this.deck.journal.verdictOf(item)
    const isChosen = this.chosen.has(index)
    tile.setAttribute("aria-selected", String(isChosen))
    tile.tabIndex = index === this.focus ? 0 : -1
    const words = !verdict ? "" : verdict[0] === "relabel" ? `→ ${this.deck.name(verdict[1])}` : WORDS[verdict[0]]
    const mark = tile.querySelector(".said")
    mark.className = `said ${verdict?.[0] ?? ""}`
    mark.textContent = words
    return tile
  }

  made(index, item) {
    const tile = element("div", "cell")
    tile.setAttribute("role", "option")
    tile.dataset.row = item.id
    const frame = element("div", this.deck.data.isText ? "frame text" : "frame")
    frame.append(this.deck.data.isText ? element("p", "", item.x) : this.deck.small(item.p))
    frame.append(element("span", "said"))
    if (item.b) {
      const badge = element("span", "badge", "planted")
      badge.title = item.b
      frame.append(badge)
    }
    const line = element("div", "line")
    line.append(element("span", "from", this.deck.name(item.l)))
    if (item.s !== item.l) line.append(element("span", "arrow", "→"), element("span", "to", this.deck.name(item.s)))
    line.append(element("span", "number", percent(item.ch)))
    tile.setAttribute("aria-label", `${item.id}: ${this.deck.name(item.l)}, suggested ${this.deck.name(item.s)}`)
    tile.append(frame, line)
    tile.onclick = (event) => {
      event.shiftKey ? this.chooseRange(index) : this.toggle(index)
      this.walk(index)
    }
    tile.ondblclick = () => this.deck.open(index)
    return tile
  }

  toggle(index) {
    this.chosen.has(index) ? this.chosen.delete(index) : this.chosen.add(index)
    this.anchor = index
    this.deck.render()
  }

  chooseRange(index) {
    const [first, last] = [Math.min(this.anchor, index), Math.max(this.anchor, index)]
    for (let at = first; at <= last; at += 1) if (this.deck.items.has(at)) this.chosen.add(at)
    this.deck.render()
  }

  chooseAll() {
    const all = this.indices()
    if (this.chosen.size === all.length) this.chosen.clear()
    else all.forEach((index) => this.chosen.add(index))
    this.deck.render()
  }

  picked() {
    return this.chosen.size ? [...this.chosen].sort((one, other) => one - other) : [this.focus]
  }

  columns() {
    const top = this.root.children[0]?.offsetTop
    const next = [...this.root.children].findIndex((tile) => tile.offsetTop !== top)
    return next < 0 ? this.root.children.length : next
  }

  walk(index) {
    const bounded = Math.max(0, Math.min(index, this.deck.data.total - 1))
    if (!this.deck.items.has(bounded)) return this.deck.need(bounded)
    this.tiles.get(this.focus)?.setAttribute("tabindex", "-1")
    this.focus = bounded
    const tile = this.tiles.get(bounded)
    tile?.setAttribute("tabindex", "0")
    tile?.focus()
    return undefined
  }

  key(event) {
    const steps = {
      ArrowRight: () => this.walk(this.focus + 1),
      ArrowLeft: () => this.walk(this.focus - 1),
      ArrowDown: () => this.walk(this.focus + this.columns()),
      ArrowUp: () => this.walk(this.focus - this.columns()),
      " ": () => this.toggle(this.focus),
      Enter: () => this.deck.open(this.focus),
      a: () => this.chooseAll(),
      Escape: () => {
        this.chosen.clear()
        this.deck.render()
      },
    }
    const step = steps[event.key.length === 1 ? event.key.toLowerCase() : event.key]
    step?.()
    return Boolean(step)
  }
}
