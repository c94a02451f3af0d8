// A histogram with a range over it. Dragging, a click or the arrow keys choose whole columns; Escape clears.

const memory = new WeakMap() // one entry per mounted histogram

export default function ({ data, parentElement, setStateValue }) {
  const chart = memory.get(parentElement) ?? made(parentElement.querySelector(".spread"))
  memory.set(parentElement, chart)
  chart.tell = () => {
    chart.turn += 1
    const [first, last] = chart.range ?? []
    setStateValue("range", { first, last, asked: chart.data.asked, turn: chart.turn })
  }
  following(chart, "spread", data, (shown) => draw(chart, shown))
  return () => {
    stopFollowing(chart)
    memory.delete(parentElement)
  }
}

function made(root) {
  const part = (name) => root.querySelector(name)
  const chart = { root, turn: 0, range: null, from: null, data: { columns: [] } }
  Object.assign(chart, { plot: part(".plot"), columns: part(".columns"), brush: part(".brush"), said: part("output") })
  Object.assign(chart, { marks: part(".marks"), words: part(".words"), title: part(".title") })
  const { plot } = chart
  const at = (event) => {
    const box = plot.getBoundingClientRect()
    const count = chart.data.columns.length
    return Math.min(Math.max(Math.floor(((event.clientX - box.left) / box.width) * count), 0), count - 1)
  }
  plot.addEventListener("pointerdown", (event) => {
    if (event.button || !chart.data.columns.length) return
    plot.setPointerCapture(event.pointerId)
    chart.from = at(event)
    chart.before = chart.range
    select(chart, [chart.from, chart.from + 1])
  })
  plot.addEventListener("pointermove", (event) => {
    const column = at(event)
    chart.said.textContent = chart.data.columns[column]?.hint ?? ""
    if (chart.from === null) return
    select(chart, [Math.min(chart.from, column), Math.max(chart.from, column) + 1])
  })
  plot.addEventListener("pointerup", () => {
    if (chart.from === null) return
    chart.from = null
    const same = String(chart.before) === String(chart.range) // a click on what is chosen gives it up
    if (same) select(chart, null)
    chart.tell()
  })
  plot.addEventListener("pointercancel", () => {
    chart.from = null
    select(chart, chart.before)
  })
  plot.addEventListener("pointerleave", () => (chart.said.textContent = ""))
  root.addEventListener("keydown", (event) => onKey(chart, event))
  root.addEventListener("blur", () => (chart.said.textContent = ""))
  return chart
}

function onKey(chart, event) {
  const count = chart.data.columns.length
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
  if (!count || (event.key === "Escape" ? !chart.range : !step)) return
  event.preventDefault()
  event.stopPropagation()
  if (event.key === "Escape") select(chart, null)
  else {
    const [first, last] = chart.range ?? (step > 0 ? [-1, 0] : [count, count + 1])
    const end = Math.min(Math.max(last + step, 1), count)
    if (event.shiftKey && chart.range) select(chart, [Math.min(first, end - 1), end])
    else {
      const next = Math.min(Math.max(step > 0 ? last : first - 1, 0), count - 1)
      select(chart, [next, next + 1])
    }
    chart.said.textContent = chart.data.columns[chart.range[1] - 1].hint
  }
  clearTimeout(chart.resting) // a held key asks the server once, when it rests
  chart.resting = setTimeout(chart.tell, 250)
}

function draw(chart, data) {
  const isNew = data.asked !== chart.data.asked
  chart.data = data
  chart.root.setAttribute("aria-label", `${data.label}. Arrow keys choose a column, with Shift a range, Escape none.`)
  if (data.height) chart.plot.style.height = `${data.height}px`
  fill(chart.columns, data.columns, (column) => {
    const drawn = document.createElement("div")
    drawn.append(document.createElement("i"))
    return drawn
  }, (drawn, column) => {
    drawn.dataset.kind = `column ${column.tone}${column.height ? " some" : ""}`
    drawn.style.height = `${100 * column.height}%`
    drawn.firstChild.style.height = `${100 * column.inner}%`
  })
  fill(chart.marks, data.marks, () => document.createElement("i"), (drawn, mark) => {
    drawn.className = mark.tone
    drawn.style.left = `${100 * mark.at}%`
  })
  fill(chart.words, data.words, () => document.createElement("span"), (drawn, word) => {
    drawn.textContent = word.text
    drawn.style.left = `${100 * word.at}%`
  })
  chart.title.textContent = data.title
  const turn = data.turn ?? chart.turn // what is shown early is nobody's echo
  if (chart.from !== null || (turn < chart.turn && !isNew)) return select(chart, chart.range)
  chart.turn = Math.max(chart.turn, turn)
  select(chart, data.chosen ?? null)
}

function fill(parent, items, make, change) {
  while (parent.children.length > items.length) parent.lastChild.remove()
  items.forEach((item, index) => change(parent.children[index] ?? parent.appendChild(make()), item))
}

function select(chart, range) {
  chart.range = range
  const count = chart.data.columns.length || 1
  ;[...chart.columns.children].forEach((drawn, index) => {
    const isOut = range && (index < range[0] || index >= range[1])
    drawn.className = `${drawn.dataset.kind}${isOut ? " out" : ""}`
  })
  chart.brush.hidden = !range
  if (!range) return
  chart.brush.style.left = `${(100 * range[0]) / count}%`
  chart.brush.style.width = `${(100 * (range[1] - range[0])) / count}%`
}
