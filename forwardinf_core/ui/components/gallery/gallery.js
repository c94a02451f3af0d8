// One gallery. Every choice carries a turn number; what comes back with an older turn is an echo and must not move the
// ring. With `early`, the address of an answer, a choice first has the answer shown and then tells the server.

const memory = new WeakMap() // one entry per mounted gallery
const EARLY = "forwardinf-early" // heard by the components that can show an answer before the server draws it
const EARLY_LIMIT_MS = 600 // after this the server is told anyway

export default function ({ data, parentElement, setStateValue }) {
  const list = parentElement.querySelector(".gallery")
  const gallery = memory.get(parentElement) ?? { turn: 0, box: listbox(list) }
  memory.set(parentElement, gallery)
  const { box } = gallery
  list.setAttribute("aria-label", data.label)
  if (box.draw(data.tiles, data) || data.turn >= gallery.turn) {
    gallery.turn = Math.max(gallery.turn, data.turn)
    box.select(data.selected)
  }
  box.onChoose = async (id) => {
    gallery.turn += 1
    const chosen = { id, turn: gallery.turn }
    const isWanted = () => chosen.turn === gallery.turn
    if (data.early) await showEarly(`${data.early}&query=${encodeURIComponent(id)}`, isWanted)
    if (isWanted()) setStateValue("chosen", chosen)
  }
  return () => {
    box.stop()
    memory.delete(parentElement)
  }
}

// Resolves when the answer stands on the screen, when there is none, or after the limit; it may then still come.
function showEarly(address, isWanted) {
  const show = async () => {
    const reply = await fetch(address)
    const answer = reply.ok ? await reply.json() : null
    if (!answer || !isWanted()) return
    document.dispatchEvent(new CustomEvent(EARLY, { detail: answer }))
    await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))
  }
  const limit = new Promise((over) => setTimeout(over, EARLY_LIMIT_MS))
  return Promise.race([show().catch(() => null), limit]) // without an early answer the server's drawing says why
}
