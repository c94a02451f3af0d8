// A listbox of pictures, shared by the components that show rows. The browser owns the cursor: the ring moves at once,
// the server hears of it afterwards.

const SMALL_PICTURE = 96 // pixels: below this a picture is drawn with sharp pixels
const TEXT_WIDTH = 172 // pixels a tile with a text has at least
const PAUSE_MS = 70 // a held arrow key reports the row it stops at

// `list` is the element with role=listbox; `settings` has width and follow; `onChoose(id)` hears of a choice.
function listbox(list) {
  const box = { tiles: [], drawn: "", cursor: 0, selected: "", timer: 0, settings: {}, onChoose: () => {} }

  box.draw = (tiles, settings) => {
    box.settings = settings
    const least = tiles.some((tile) => tile.text) ? TEXT_WIDTH : 0
    list.style.setProperty("--tile", `${Math.max(settings.width, least)}px`)
    const wanted = JSON.stringify(tiles)
    if (wanted === box.drawn) return false
    list.replaceChildren(...tiles.map((tile) => drawTile(tile, settings.width)))
    box.tiles = tiles
    box.drawn = wanted
    box.cursor = 0
    return true
  }

  box.select = (id) => {
    box.selected = id
    const found = box.tiles.findIndex((tile) => tile.id === id)
    if (found >= 0) box.cursor = found
    mark()
  }

  box.stop = () => clearTimeout(box.timer)

  function mark() {
    ;[...list.children].forEach((option, index) => {
      option.setAttribute("aria-selected", String(box.tiles[index].id === box.selected))
      option.tabIndex = index === box.cursor ? 0 : -1
    })
  }

  function choose(index) {
    box.cursor = index
    box.selected = box.tiles[index].id
    mark()
    clearTimeout(box.timer)
    const id = box.selected
    box.timer = setTimeout(() => box.onChoose(id), box.settings.follow ? PAUSE_MS : 0)
  }

  function move(index) {
    const bounded = Math.min(Math.max(index, 0), box.tiles.length - 1)
    if (box.settings.follow) choose(bounded)
    else {
      box.cursor = bounded
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
    if (event.altKey || event.ctrlKey || event.metaKey || !box.tiles.length) return
    const here = box.cursor
    const steps = {
      ArrowRight: () => move(here + 1),
      ArrowLeft: () => move(here - 1),
      ArrowDown: () => here + columns() < box.tiles.length && move(here + columns()),
      ArrowUp: () => here >= columns() && move(here - columns()),
      Home: () => move(0),
      End: () => move(box.tiles.length - 1),
      Enter: () => choose(here),
      " ": () => choose(here),
    }
    if (!(event.key in steps)) return
    event.preventDefault()
    event.stopPropagation()
    steps[event.key]()
  }

  return box
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
  option.setAttribute("aria-label", [tile.text, tile.title, tile.note, tile.badge, tile.hint].filter(Boolean).join(", "))
  option.dataset.id = tile.id
  if (tile.hint) option.title = tile.hint

  const frame = tile.text ? drawText(tile) : drawThumbnail(tile, width)
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

function drawText(tile) {
  const frame = element("div", "frame text")
  const words = element("p", "", tile.text)
  words.dir = "auto"
  frame.append(words)
  return frame
}

function drawThumbnail(tile, width) {
  const frame = element("div", "frame")
  const picture = element("img", "")
  picture.alt = ""
  picture.decoding = "async"
  picture.loading = tile.src.startsWith("data:") ? "eager" : "lazy"
  picture.draggable = false
  picture.onload = () => {
    if (picture.naturalWidth < SMALL_PICTURE && picture.naturalWidth < width * 2) picture.classList.add("sharp")
    picture.classList.add("ready")
  }
  picture.onerror = () => frame.replaceChildren(element("span", "missing", "no picture"))
  picture.src = tile.src
  if (tile.src.startsWith("data:")) picture.className = "ready" // it is here already: no fading in
  frame.append(picture)
  return frame
}
