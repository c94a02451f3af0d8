// One row large: picture or text, label against suggestion, likely classes, reasons, and the rows that speak for them.

const WORDS = { keep: "Kept", relabel: "Relabelled", drop: "Dropped", unsure: "Unsure" }
const SHARP_BELOW = 2 // a picture enlarged at least so many times keeps its pixels sharp
const STRIP_BEFORE = 5
const STRIP_AFTER = 7

function element(name, className, text = "") {
  const made = document.createElement(name)
  if (className) made.className = className
  if (text) made.textContent = text
  return made
}

function percent(share) {
  if (share > 0.995) return "over 99%"
  return share > 0 && share < 0.01 ? "under 1%" : `${Math.round(100 * share)}%`
}

class Card {
  constructor(root, deck) {
    this.root = root
    this.deck = deck
    this.pictures = new Map() // address → image, so that a prefetched picture is shown without a blink
    this.strip = new Map() // index → tile
    this.beside = 0
    this.shown = null
  }

  find(name) {
    return this.root.querySelector(name)
  }

  picture(src) {
    let image = this.pictures.get(src)
    if (!image) {
      image = element("img")
      image.draggable = false
      image.decoding = "sync"
      image.src = src
      this.pictures.set(src, image)
      if (this.pictures.size > 60) this.pictures.delete(this.pictures.keys().next().value)
    }
    return image
  }

  draw(item, index) {
    const verdict = this.deck.journal.verdictOf(item)
    const frame = this.find(".picture")
    frame.classList.toggle("text", this.deck.data.isText)
    if (this.deck.data.isText) {
      frame.replaceChildren(element("p", "", item.x))
    } else {
      const image = this.picture(this.deck.large(item.p))
      image.alt = `Row ${item.id}`
      image.classList.toggle("sharp", frame.clientWidth / this.deck.data.pixels >= SHARP_BELOW)
      frame.replaceChildren(image)
    }
    if (verdict) frame.append(this.ribbon(verdict))
    if (item.b) frame.append(element("span", "badge", item.b))
    this.find(".row-id").textContent = item.id
    this.drawClaim(item)
    this.drawChoices(item, verdict)
    this.find(".reasons").replaceChildren(...item.why.map((reason) => element("li", "", reason)))
    this.drawOthers(item)
    this.drawStrip(index)
    this.prefetch(index)
    if (this.shown !== item) this.drawEvidenceSoon(item)
    this.shown = item
  }

  ribbon(verdict) {
    const [action, label] = verdict
    const words = action === "relabel" ? `Relabelled ‘${this.deck.name(label)}’` : WORDS[action]
    return element("span", `ribbon ${action}`, words)
  }

  drawClaim(item) {
    const own = element("span", "pill own", this.deck.name(item.l))
    const parts = [element("span", "quiet", "Label"), own]
    if (item.s !== item.l) {
      parts.push(element("span", "arrow", "→"), element("span", "quiet", "Suggested"))
      parts.push(element("span", "pill suggested", this.deck.name(item.s)))
    } else parts.push(element("span", "quiet", "no other label is likelier"))
    this.find(".claim").replaceChildren(...parts)
    const chance = `Rank ${item.rank.toLocaleString("en")} · ${percent(item.ch)} chance that the label is wrong`
    this.find(".chance").textContent = chance
  }

  drawChoices(item, verdict) {
    const chosen = verdict?.[0] === "relabel" ? verdict[1] : verdict?.[0] === "keep" ? item.l : null
    const rows = item.c.map(([code, share], place) => {
      const row = element("button", "choice")
      row.type = "button"
      row.classList.toggle("own", code === item.l)
      row.classList.toggle("faint", share < 0.01 && code !== item.l)
      row.classList.toggle("chosen", code === chosen)
      row.setAttribute("aria-label", `${this.deck.name(code)}, ${percent(share)}, key ${place + 1}`)
      const bar = element("i", "share")
      bar.style.width = `${Math.max(1, 100 * share)}%`
      const track = element("span", "track")
      track.append(bar)
      row.append(element("kbd", "", String(place + 1)), element("span", "name", this.deck.name(code)), track)
      row.append(element("span", "number", percent(share)))
      row.onclick = () => this.deck.choose(code)
      return row
    })
    if (this.deck.data.names.length > item.c.length) rows.push(this.otherClass(item))
    this.find(".choices").replaceChildren(...rows)
  }

  otherClass(item) {
    const among = new Set(item.c.map(([code]) => code))
    const field = element("select", "other")
    field.setAttribute("aria-label", "Another class")
    field.append(new Option("Another class …", ""))
    field.onfocus = () => {
      if (field.options.length > 1) return
      this.deck.data.names.forEach((name, code) => among.has(code) || field.append(new Option(name, String(code))))
    }
    field.onchange = () => field.value !== "" && this.deck.choose(Number(field.value))
    return field
  }

  drawOthers(item) {
    const told = item.o.map(([who, action, label]) => {
      const words = action === "relabel" ? `relabel to ‘${this.deck.name(label)}’` : action
      return element("li", "", `${who}: ${words}`)
    })
    this.find(".others").replaceChildren(...told)
  }

  drawStrip(index) {
    const first = Math.max(0, index - STRIP_BEFORE)
    const last = Math.min(this.deck.data.total - 1, index + STRIP_AFTER)
    const tiles = []
    for (let at = first; at <= last; at += 1) {
      const item = this.deck.items.get(at)
      if (!item) continue
      let tile = this.strip.get(at)
      if (!tile || tile.dataset.row !== item.id) {
        tile = element("button", "film")
        tile.type = "button"
        tile.tabIndex = -1
        tile.dataset.row = item.id
        tile.setAttribute("aria-label", `Go to row ${item.id}`)
        tile.append(this.deck.data.isText ? element("span", "extract", item.x.slice(0, 60)) : this.deck.small(item.p))
        tile.append(element("i", "mark"))
        tile.onclick = () => this.deck.go(at)
        this.strip.set(at, tile)
      }
      tile.classList.toggle("here", at === index)
      tile.lastChild.className = `mark ${this.deck.journal.verdictOf(item)?.[0] ?? ""}`
      tiles.push(tile)
    }
    const strip = this.find(".strip")
    const same = strip.children.length === tiles.length && tiles.every((tile, at) => strip.children[at] === tile)
    if (!same) strip.replaceChildren(...tiles)
    if (this.strip.size > 400) this.strip.clear()
  }

  prefetch(index) {
    if (this.deck.data.isText) return
    for (let at = index + 1; at <= index + 4; at += 1) {
      const item = this.deck.items.get(at)
      if (item) this.picture(this.deck.large(item.p))
    }
  }

  // The rows beside it wait until the keys rest: at twenty milliseconds a key nobody looks at them.
  drawEvidenceSoon(item) {
    clearTimeout(this.beside)
    const draw = () => {
      const groups = [
        this.group("Nearest rows", item.n, item, this.agreeing(item)),
        this.group("Same content", item.t, item, "exact copies in the training set"),
        this.group("Trusted rows that speak against it", item.a, item, "", "trusted"),
      ]
      this.find(".evidence").replaceChildren(...groups.filter(Boolean))
    }
    this.beside = setTimeout(draw, 60)
  }

  agreeing(item) {
    const like = (code) => item.n.filter(([, label]) => label === code).length
    const own = `${like(item.l)} labelled ‘${this.deck.name(item.l)}’`
    return item.s === item.l ? own : `${like(item.s)} labelled ‘${this.deck.name(item.s)}’, ${own}`
  }

  group(title, rows, item, note, split = "train") {
    if (!rows.length) return null
    const group = element("div", "group")
    const head = element("div", "group-head")
    head.append(element("b", "", title), element("span", "quiet", note))
    const tiles = rows.map(([key, label, text]) => {
      const side = label === item.s && item.s !== item.l ? "suggested" : label === item.l ? "own" : ""
      const tile = element("div", `near ${side} ${text === undefined ? "" : "text"}`)
      tile.append(text === undefined ? this.deck.small(key, split) : element("span", "extract", text))
      tile.append(element("span", "name", this.deck.name(label)))
      return tile
    })
    const list = element("div", `tiles ${rows[0][2] === undefined ? "" : "text"}`)
    list.append(...tiles)
    group.append(head, list)
    return group
  }
}
