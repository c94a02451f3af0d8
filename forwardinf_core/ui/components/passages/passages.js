// A listbox of texts. Marked words carry a background as strong as their share; the browser moves the ring at once.

const memory = new WeakMap() // one entry per mounted list

export default function ({ data, parentElement, setStateValue }) {
  const list = parentElement.querySelector(".passages")
  const own = memory.get(parentElement) ?? { drawn: "", selected: "", cursor: 0, turn: 0 }
  memory.set(parentElement, own)
  list.setAttribute("aria-label", data.label)

  const wanted = JSON.stringify(data.rows)
  if (wanted !== own.drawn) {
    list.replaceChildren(...data.rows.map(drawRow))
    own.drawn = wanted
  }
  own.selected = data.selected
  own.cursor = Math.max(0, data.rows.findIndex((row) => row.id === data.selected))
  mark()

  function mark() {
    ;[...list.children].forEach((option, index) => {
      option.setAttribute("aria-selected", String(data.rows[index].id === own.selected))
      option.tabIndex = index === own.cursor ? 0 : -1
    })
  }

  function choose(index) {
    own.cursor = index
    own.selected = data.rows[index].id
    own.turn += 1
    mark()
    setStateValue("chosen", { id: own.selected, turn: own.turn })
  }

  list.onclick = (event) => {
    const index = [...list.children].indexOf(event.target.closest("[role=option]"))
    if (index >= 0) choose(index)
  }
  list.onkeydown = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !data.rows.length) return
    const moves = { ArrowDown: 1, ArrowUp: -1 }
    if (event.key in moves) {
      own.cursor = Math.min(Math.max(own.cursor + moves[event.key], 0), data.rows.length - 1)
      mark()
      list.children[own.cursor].focus()
    } else if (event.key === "Enter" || event.key === " ") choose(own.cursor)
    else return
    event.preventDefault()
    event.stopPropagation()
  }
}

function element(name, className, text = "") {
  const made = document.createElement(name)
  made.className = className
  made.textContent = text
  return made
}

function drawRow(row) {
  const option = element("div", `passage ${row.tone}`)
  option.setAttribute("role", "option")
  option.setAttribute("aria-label", [row.runs.map((run) => run.text).join(""), row.effect, row.badge].join(", "))
  const text = element("p", "text")
  for (const run of row.runs) {
    if (!run.strength) {
      text.append(run.text)
      continue
    }
    const mark = element("mark", run.strength > 0 ? "helped" : "hurt", run.text)
    mark.style.setProperty("--share", `${Math.round(Math.min(Math.abs(run.strength), 1) * 42)}%`)
    text.append(mark)
  }
  const line = element("div", "line")
  line.append(element("span", "effect", row.effect))
  for (const [name, value] of row.facts) {
    const fact = element("span", "fact")
    fact.append(element("i", "", name), element("b", "", value))
    line.append(fact)
  }
  if (row.badge) line.append(element("span", `badge ${row.badge_tone}`, row.badge))
  option.append(text, line)
  return option
}
