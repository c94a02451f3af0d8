// A listbox of pictures. The browser owns the cursor: the ring moves at once, the server hears of it afterwards.
// Every choice carries a turn number; what comes back with an older turn is an echo and must not move the ring.

const memory = new WeakMap() // one entry per mounted gallery
const SMALL_PICTURE = 96 // pixels: below this a picture is drawn with sharp pixels
const PAUSE_MS = 70 // a held arrow key reports the row it stops at

export default function ({ data, parentElement, setStateValue }) {
  const list = parentElement.querySelector(".gallery")
  const gallery = memory.get(parentElement) ?? { turn: 0, drawn: "", cursor: 0, selected: "", timer: 0 }
  memory.set(parentElement, gallery)

  list.setAttribute("aria-label", data.label)
  list.style.setProperty("--tile", `${data.width}px`)

  const wanted = JSON.stringify(data.tiles)
  if (wanted !== gallery.drawn) {
    list.replaceChildren(...data.tiles.map((tile) => drawTile(tile, data.width)))
    gallery.drawn = wanted
    gallery.selected = data.selected
    gallery.turn = Math.max(gallery.turn, data.turn)
    gallery.cursor = Math.max(0, data.tiles.findIndex((tile) => tile.id === data.selected))
  } else if (data.turn >= gallery.turn && data.selected !== gallery.selected) {
    gallery.selected = data.selected
    const found = data.tiles.findIndex((tile) => tile.id === data.selected)
    if (found >= 0) gallery.cursor = found
  }
  mark()

  function mark() {
    ;[...list.children].forEach((option, index) => {
      option.setAttribute("aria-selected", String(data.tiles[index].id === gallery.selected))
      option.tabIndex = index === gallery.cursor ? 0 : -1
    })
  }

  function choose(index) {
    gallery.cursor = index
    gallery.selected = data.tiles[index].id
    gallery.turn += 1
    mark()
    clearTimeout(gallery.timer)
    const chosen = { id: gallery.selected, turn: gallery.turn }
    gallery.timer = setTimeout(() => setStateValue("chosen", chosen), data.follow ? PAUSE_MS : 0)
  }

  function move(index) {
    const bounded = Math.min(Math.max(index, 0), data.tiles.length - 1)
    if (data.follow) choose(bounded)
    else {
      gallery.cursor = bounded
      mark()
    }
    list.children[bounded].focus()
  }

  function columns() {
    const top = list.children[0]?.offsetTop
    const next = [...list.children].findIndex((option) => option.offsetTop !== top)
    return next < 0 ? list.children.length : next
  }

  list.onclick = (event) => {
    const index = [...list.children].indexOf(event.target.closest("[role=option]"))
    if (index < 0) return
    choose(index)
    list.children[index].focus({ preventScroll: true })
  }

  list.onkeydown = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !data.tiles.length) return
    const here = gallery.cursor
    const steps = {
      ArrowRight: () => move(here + 1),
      ArrowLeft: () => move(here - 1),
      ArrowDown: () => here + columns() < data.tiles.length && move(here + columns()),
      ArrowUp: () => here >= columns() && move(here - columns()),
      Home: () => move(0),
      End: () => move(data.tiles.length - 1),
      Enter: () => choose(here),
      " ": () => choose(here),
    }
    if (!(event.key in steps)) return
    event.preventDefault()
    event.stopPropagation()
    steps[event.key]()
  }

  return () => {
    clearTimeout(gallery.timer)
    memory.delete(parentElement)
  }
}

function element(name, className, text = "") {
  const made = document.createElement(name)
  made.className = className
  made.textContent = text
  return made
}

function drawTile(tile, width) {
  const option = element("div", `tile ${tile.tone}`)
  option.setAttribute("role", "option")
  option.setAttribute("aria-label", [tile.title, tile.note, tile.badge, tile.hint].filter(Boolean).join(", "))
  option.dataset.id = tile.id
  if (tile.hint) option.title = tile.hint

  const frame = element("div", "frame")
  const picture = element("img", "")
  picture.alt = ""
  picture.decoding = "async"
  picture.loading = "lazy"
  picture.draggable = false
  picture.onload = () => {
    if (picture.naturalWidth < SMALL_PICTURE && picture.naturalWidth < width * 2) picture.classList.add("sharp")
    picture.classList.add("ready")
  }
  picture.onerror = () => frame.replaceChildren(element("span", "missing", "no picture"))
  picture.src = tile.src
  frame.append(picture)
  if (tile.badge) frame.append(element("span", "badge", tile.badge))
  option.append(frame)

  if (tile.strength >= 0) {
    const track = element("div", "strength")
    const bar = element("i", "")
    bar.style.width = `${Math.max(3, Math.min(100, tile.strength * 100))}%`
    track.append(bar)
    option.append(track)
  }
  const line = element("div", "line")
  line.append(element("span", "title", tile.title))
  if (tile.note) line.append(element("span", "note", tile.note))
  option.append(line)
  return option
}
