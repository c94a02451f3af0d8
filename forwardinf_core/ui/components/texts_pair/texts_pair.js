// Two texts side by side; what only one of them has is marked. Text is only ever text: no markup is read.
export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".texts")
  const wanted = JSON.stringify(data)
  if (root.dataset.drawn === wanted) return
  root.dataset.drawn = wanted
  const note = document.createElement("p")
  note.className = "note"
  note.textContent = data.note
  root.replaceChildren(...data.sides.map(side), ...(data.note ? [note] : []))
}

function side({ title, runs }) {
  const made = document.createElement("div")
  made.className = "side"
  const over = document.createElement("p")
  over.className = "title"
  over.textContent = title
  const text = document.createElement("div")
  text.className = "text"
  text.dir = "auto"
  text.tabIndex = 0
  text.setAttribute("role", "document")
  text.setAttribute("aria-label", title)
  text.append(...(runs.length ? runs.flatMap(run) : [nothing()]))
  made.append(over, text)
  return made
}

function run([words, isOwn]) {
  const made = document.createElement(isOwn ? "mark" : "span")
  made.textContent = words.trimStart() // spaces before a word are not marked
  return [words.slice(0, words.length - made.textContent.length), made]
}

function nothing() {
  const made = document.createElement("span")
  made.className = "empty"
  made.textContent = "This text is empty."
  return made
}
