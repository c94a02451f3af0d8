// Slim bars. Rows are reused by position, so a change of values glides instead of blinking.

function drawBars(list, data) {
  list.setAttribute("aria-label", data.label)
  while (list.children.length > data.bars.length) list.lastChild.remove()
  data.bars.forEach((bar, index) => {
    const row = list.children[index] ?? list.appendChild(makeRow())
    const [name, track, value] = row.children
    row.className = `bar ${bar.tone}`
    row.setAttribute("aria-label", [bar.name, bar.mark, bar.value].filter(Boolean).join(", "))
    name.firstChild.textContent = bar.name
    name.title = bar.name
    name.lastChild.textContent = bar.mark
    const fill = track.firstChild
    fill.style.left = `${bar.start * 100}%`
    fill.style.width = `${Math.max(0, bar.end - bar.start) * 100}%`
    track.lastChild.hidden = data.zero === null
    track.lastChild.style.left = `${(data.zero ?? 0) * 100}%`
    value.textContent = bar.value
  })
}

function makeRow() {
  const row = document.createElement("div")
  row.setAttribute("role", "listitem")
  const name = document.createElement("span")
  name.className = "name"
  name.append(document.createElement("b"), document.createElement("small"))
  const track = document.createElement("span")
  track.className = "track"
  track.append(document.createElement("i"), document.createElement("u"))
  const value = document.createElement("span")
  value.className = "value"
  row.append(name, track, value)
  return row
}
