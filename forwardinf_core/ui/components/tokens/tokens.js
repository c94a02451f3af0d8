// A line of tokens of which some are picked: click for one, drag for a range, Shift or Ctrl to add or take away.
// The browser draws the choice at once; the server hears of it when the pointer is lifted.

const memory = new WeakMap() // one entry per mounted line

export default function ({ data, parentElement, setStateValue }) {
  const line = parentElement.querySelector(".tokens")
  const own = memory.get(parentElement) ?? { drawn: "", picked: new Set(), from: -1, cursor: 0, turn: 0, before: null }
  memory.set(parentElement, own)
  line.setAttribute("aria-label", data.label)

  const wanted = JSON.stringify([data.tokens, data.picked])
  if (wanted !== own.drawn) {
    line.replaceChildren(...data.tokens.map(drawToken))
    own.drawn = wanted
    own.picked = new Set(data.picked)
    own.cursor = Math.min(Math.max(data.picked[0] ?? 0, 0), Math.max(data.tokens.length - 1, 0))
  }
  mark()

  function mark() {
    ;[...line.children].forEach((token, index) => {
      token.setAttribute("aria-selected", String(own.picked.has(index)))
      token.tabIndex = index === own.cursor ? 0 : -1
    })
  }

  function range(start, stop) {
    const [low, high] = start < stop ? [start, stop] : [stop, start]
    const found = []
    for (let index = low; index <= high; index++) if (data.tokens[index].can_pick) found.push(index)
    return found
  }

  function tell() {
    if (!own.picked.size) own.picked = new Set(data.picked) // nothing chosen means nothing asked: keep what was
    mark()
    own.turn += 1
    setStateValue("picked", { places: [...own.picked].sort((a, b) => a - b), turn: own.turn })
  }

  const indexOf = (event) => [...line.children].indexOf(event.target.closest?.("[role=option]"))

  line.onpointerdown = (event) => {
    const index = indexOf(event)
    if (index < 0 || !data.tokens[index].can_pick) return
    own.from = own.cursor = index
    own.before = event.shiftKey || event.ctrlKey || event.metaKey ? new Set(own.picked) : new Set()
    own.picked = new Set(own.before)
    own.picked.has(index) ? own.picked.delete(index) : own.picked.add(index)
    mark()
  }
  line.onpointerover = (event) => {
    const index = indexOf(event)
    if (own.from < 0 || index < 0 || index === own.from) return
    own.picked = new Set([...own.before, ...range(own.from, index)])
    mark()
  }
  const lift = () => {
    if (own.from < 0) return
    own.from = -1
    tell()
  }
  window.addEventListener("pointerup", lift)

  line.onkeydown = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !data.tokens.length) return
    const moves = { ArrowRight: 1, ArrowLeft: -1 }
    if (event.key in moves) {
      own.cursor = Math.min(Math.max(own.cursor + moves[event.key], 0), data.tokens.length - 1)
      if (event.shiftKey && data.tokens[own.cursor].can_pick) {
        own.picked.add(own.cursor)
        tell()
      }
      mark()
      line.children[own.cursor].focus()
    } else if (event.key === "Enter" || event.key === " ") {
      if (data.tokens[own.cursor].can_pick) {
        own.picked.has(own.cursor) ? own.picked.delete(own.cursor) : own.picked.add(own.cursor)
        tell()
      }
    } else return
    event.preventDefault()
    event.stopPropagation()
  }

  return () => {
    window.removeEventListener("pointerup", lift)
  }
}

function drawToken(token) {
  const option = document.createElement("span")
  option.className = `token ${token.tone}${token.can_pick ? "" : " fixed"}`
  option.setAttribute("role", "option")
  option.setAttribute("aria-label", [token.text.trim(), token.note].filter(Boolean).join(", "))
  const word = document.createElement("b")
  word.textContent = token.text.trim() || "␣"
  const note = document.createElement("small")
  note.textContent = token.note
  option.append(word, note)
  return option
}
